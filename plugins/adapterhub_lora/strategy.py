"""The half of LoRA that needs torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adapterhub_lite.api import Combination, ConfigError, ModelView, NotSupportedError, Part, Recipe
from adapterhub_lora import LoraConfig
from adapterhub_lora.combine import combine
from adapterhub_lora.from_peft import from_peft
from adapterhub_lora.gguf_file import write_gguf
from adapterhub_lora.updates import FILE_PREFIX, alpha_of, scale_of, weight_updates

ADAPTER = "default"


class Lora:
    """LoRA, rsLoRA, DoRA; starts at zero, PiSSA or LoftQ."""

    def __init__(self) -> None:
        self._start: dict[str, Tensor] = {}

    def attach(self, view: ModelView, config: LoraConfig) -> Mapping[str, nn.Parameter]:
        """Wrap the targets in PEFT's LoRA layers.

        Raises:
            NotSupportedError: no target in this model, or a start that does not go with its quantization.
        """
        targets = find_targets(view, config.targets)
        quantized = any(view.is_quantized(path) for path in targets)
        if config.init == "pissa" and quantized:
            raise NotSupportedError("lora: init=pissa needs an unquantized base; use init=loftq on a quantized one")
        if config.init == "pissa":
            _check_principal_directions(view, config, targets)
        if config.init == "loftq" and not quantized:
            raise NotSupportedError("lora: init=loftq makes up for quantization, and this base is not quantized")
        peft_config = PeftLoraConfig(
            r=config.rank,
            lora_alpha=alpha_of(config),
            lora_dropout=config.dropout,
            target_modules=targets,
            use_rslora=config.rslora,
            use_dora=config.dora,
            init_lora_weights={"gaussian": "gaussian", "pissa": "pissa"}.get(config.init, True),
        )
        with view.recording(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's remarks are about what the lines above decided
            inject_adapter_in_model(peft_config, view.model, ADAPTER)
        parameters = _parameters(view)
        for parameter in parameters.values():
            parameter.data = parameter.data.float()
        if config.init == "loftq":
            self._make_up_for_quantization(view, config, targets)
        if config.init == "pissa":
            self._start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        return parameters

    def export(
        self, view: ModelView, config: LoraConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraConfig, Mapping[str, Tensor]]:
        """Turn an adapter started by PiSSA, which sits on a changed base, into one of twice the rank on the plain base.

        With W = R + s B0 A0 at the start, R + s B A = W + s [B, -B0] [A; A0] (PEFT's conversion, done here in memory).
        """
        if config.init != "pissa":
            # A saved adapter needs no start of its own: what it starts with is in its tensors.
            return config.model_copy(update={"init": "default"}), tensors
        saved: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if "lora_A" in name:
                saved[name] = torch.cat([tensor, self._start[name]], dim=0)  # (2 rank, in_features)
            elif "lora_B" in name:
                saved[name] = torch.cat([tensor, -self._start[name]], dim=1)  # (out_features, 2 rank)
            else:
                saved[name] = tensor
        # The scale alpha / rank (or alpha / sqrt(rank)) has to stay what it was.
        factor = math.sqrt(2) if config.rslora else 2.0
        plain = config.model_copy(
            update={"rank": 2 * config.rank, "alpha": factor * alpha_of(config), "init": "default"}
        )
        return plain, saved

    def peft_config(self, view: ModelView, config: LoraConfig) -> Mapping[str, Any]:
        """PEFT's own configuration of the same adapter."""
        peft_config = PeftLoraConfig(
            r=config.rank,
            lora_alpha=alpha_of(config),
            lora_dropout=config.dropout,
            # What was wrapped; asked for again by name, the layers would not be found behind their wrappers.
            target_modules=[path for path, _ in _layers(view)],
            use_rslora=config.rslora,
            use_dora=config.dora,
            fan_in_fan_out=any(type(layer.get_base_layer()).__name__ == "Conv1D" for _, layer in _layers(view)),
            inference_mode=True,
        ).to_dict()
        return {key: sorted(value) if isinstance(value, set) else value for key, value in peft_config.items()}

    def merge(self, view: ModelView, config: LoraConfig, tensors: Mapping[str, Tensor]) -> None:
        """Add the updates to the base weights, in place.

        Raises:
            NotSupportedError: on a quantized base, where adding would round the update away.
        """
        for path, _ in _layers(view):
            if view.is_quantized(f"{path}.base_layer"):
                raise NotSupportedError(f"lora: '{path}' is quantized; merge into the unquantized base instead")
        for _, layer in _layers(view):
            layer.merge(safe_merge=True, adapter_names=[ADAPTER])

    def updates(
        self, config: LoraConfig, tensors: Mapping[str, Tensor]
    ) -> Mapping[str, Callable[[Tensor, bool], Tensor]] | None:
        """The update of each weight, from the adapter's tensors alone."""
        return weight_updates(tensors, config.rank, alpha_of(config), rslora=config.rslora)

    def from_peft(
        self, view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        """See `from_peft.from_peft`."""
        return from_peft(view, config, tensors)

    def combine(self, parts: Sequence[Part], recipe: Recipe) -> Combination:
        """See `combine.combine`."""
        return combine(parts, recipe)

    def write_gguf(self, path: Path, config: LoraConfig, tensors: Mapping[str, Tensor], model_config: Any) -> int:
        """See `gguf_file.write_gguf`."""
        return write_gguf(path, config, tensors, model_config)

    def _make_up_for_quantization(self, view: ModelView, config: LoraConfig, targets: list[str]) -> None:
        """Start at the best low-rank approximation of what quantization lost (LoftQ with the quantized weight given)."""
        scale = scale_of(config.rank, alpha_of(config), rslora=config.rslora)
        layers = dict(_layers(view))
        for path in targets:
            layer = layers[path]
            quantized = view.weight(f"{path}.base_layer").float()
            lost = view.original_weight(path).to(quantized.device) - quantized  # (out_features, in_features)
            u, s, v = torch.linalg.svd(lost, full_matrices=False)
            root = s[: config.rank].sqrt()
            # A weight smaller than the rank has fewer directions than there is room for; the rest starts at zero.
            a, b = layer.lora_A[ADAPTER].weight.data.zero_(), layer.lora_B[ADAPTER].weight.data.zero_()
            a[: len(root)] = root[:, None] * v[: config.rank]
            b[:, : len(root)] = u[:, : config.rank] * root / scale


def find_targets(view: ModelView, wanted: str) -> list[str]:
    """Resolve the option `targets` to paths of weight matrices.

    Raises:
        ConfigError: a name that fits no weight matrix of this model; lists those there are.
        NotSupportedError: attention asked for in a model that has none.
    """
    if wanted == "all-linear":
        if not view.map.linears:
            raise NotSupportedError("lora: this model has no weight matrices in its layers; use full or linear_probe")
        return list(view.map.linears)
    if wanted == "attention":
        if not view.map.attention_linears:
            raise NotSupportedError("lora: targets=attention, but this model has no attention; use targets=all-linear")
        return list(view.map.attention_linears)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    everything = [path for path, module in view.model.named_modules() if _has_weight(module)]
    chosen: list[str] = []
    for name in names:
        paths = [path for path in everything if path == name or path.endswith(f".{name}")]
        if not paths:
            there = ", ".join(sorted({path.rpartition(".")[2] for path in view.map.linears}))
            raise ConfigError(f"lora: targets={name} fits no weight matrix of this model; there are: {there}")
        chosen += [path for path in paths if path not in chosen]
    if not chosen:
        raise ConfigError("lora: targets is empty; use all-linear, attention or names separated by commas")
    return chosen


def _check_principal_directions(view: ModelView, config: LoraConfig, targets: list[str]) -> None:
    """Refuse weights that PiSSA cannot split, before anything is changed."""
    for path in targets:
        shape = tuple(view.weight(path).shape)
        if len(shape) != 2:
            raise NotSupportedError(
                f"lora: init=pissa splits matrices, and '{path}' is a convolution; use init=default"
            )
        if config.rank > min(shape):
            raise ConfigError(
                f"lora: init=pissa takes rank={config.rank} directions, and '{path}' has {min(shape)}; lower the rank or "
                "use init=default"
            )


def _has_weight(module: nn.Module) -> bool:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    return isinstance(module, kinds) or type(module).__name__ == "Conv1D"


def _layers(view: ModelView) -> list[tuple[str, Any]]:
    return [(path, module) for path, module in view.model.named_modules() if isinstance(module, BaseTunerLayer)]


def _parameters(view: ModelView) -> dict[str, nn.Parameter]:
    """The adapter's parameters by the names that PEFT gives them in a file."""
    parameters: dict[str, nn.Parameter] = {}
    for path, layer in _layers(view):
        for name, parameter in layer.named_parameters():
            if not name.startswith("lora_"):
                continue
            kind, _, rest = name.partition(f".{ADAPTER}")
            # A magnitude vector is a module in memory and a bare tensor in a file.
            inside = "" if kind == "lora_magnitude_vector" else rest
            parameters[f"{FILE_PREFIX}{path}.{kind}{inside}"] = parameter
    return parameters
