"""The half of LoRA that needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from adapterhub_lite.api import (
    Combination,
    Factors,
    ModelView,
    NotSupportedError,
    Part,
    Recipe,
    StrategyState,
    TrainingBatch,
    quiet,
)
from adapterhub_lora import CHANGE_BASE, LoraConfig
from adapterhub_lora.combine import combine
from adapterhub_lora.eva import eva
from adapterhub_lora.experts import as_parameters, in_parameters, wrap_experts
from adapterhub_lora.from_peft import from_peft
from adapterhub_lora.fused import use_fused
from adapterhub_lora.gguf_file import write_gguf
from adapterhub_lora.layers import ADAPTER, expert_layers, is_transposed, lora_layers, parameters_of
from adapterhub_lora.scales import alpha_at, alpha_of, pattern_of, rank_at, scale_at, settled
from adapterhub_lora.starts import Rest, check_start, find_start, put, refuse_shards
from adapterhub_lora.targets import bias_parameters, find_targets, train_biases
from adapterhub_lora.untrained import CHOSEN_HERE, let_go
from adapterhub_lora.updates import FILE_PREFIX, weight_updates


class Lora:
    """LoRA, rsLoRA, DoRA, LoRA+; starts at zero, from the base's weights or from the data."""

    def __init__(self) -> None:
        self._rest = Rest()

    def attach(self, view: ModelView, config: LoraConfig) -> Mapping[str, nn.Parameter]:
        """Wrap the targets in PEFT's LoRA layers.

        Raises:
            ConfigError: options that fit nothing in this model.
            NotSupportedError: no target in this model, or a start that does not go with its weights.
        """
        self._view, self._config = view, config
        targets = find_targets(view, config)
        check_start(view, config, targets)
        train_biases(view, config, targets)
        modules = [path for path in targets if path not in view.map.experts]
        with view.recording(), quiet():  # PEFT's remarks are about what the lines above decided
            # By the names in a file, since PEFT reads some names in a list of targets as those of older models' experts.
            names = dict.fromkeys(f"{path}.lora_A.weight" for path in modules)
            if names:
                in_peft = _in_peft(config, [])
                use_fused(view, modules, in_peft)
                inject_adapter_in_model(in_peft, view.model, ADAPTER, state_dict=names)
        experts = [path for path in view.map.experts if path in targets]
        wrap_experts(view, config, experts, _in_peft(config.model_copy(update={"dropout": 0.0}), []))
        _tell_of_convolutions(view)
        trained = _trained(view, config)
        if config.init == "loftq":
            self._make_up_for_quantization(view, config, targets)
        return trained

    def prepare(
        self,
        view: ModelView,
        config: LoraConfig,
        parameters: Mapping[str, nn.Parameter],
        batches: Iterable[TrainingBatch],
    ) -> tuple[LoraConfig, Mapping[str, nn.Parameter]] | None:
        """Begin where the option `init` says, for starts that change the base or look at the data, with targets that train.

        Raises:
            ConfigError, NotSupportedError: data or weights that the start cannot work on; names the layer.
        """
        if config.init in CHANGE_BASE:
            refuse_shards(view, config)
            start = find_start(view, config, batches)
            self._rest.leave(view, config, start)
            put(view, start)
        if config.init == "eva":
            directions = eva([path for path, _ in lora_layers(view)], config, batches)
            self._config = _spread_ranks(view, config, directions)
            return self._config, _trained(view, self._config)
        if config.init not in CHANGE_BASE and config.targets in CHOSEN_HERE:
            fewer = let_go(view, config)
            if fewer is not None:
                self._config = fewer
                return fewer, _trained(view, fewer)
        return None

    def groups(self, config: LoraConfig, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Factors]:
        """LoRA+ (Hayou et al. 2024, arXiv:2402.12354): B, magnitudes and biases learn at a multiple of the rate of A.

        The update of an embedding, where A and B change their parts, learns at the rate of A.
        """
        faster = Factors(learning_rate=config.lora_plus_ratio)
        if config.lora_plus_ratio == 1:
            return {}
        return {name: faster for name, own in parameters.items() if ".lora_B." in name or own.dim() == 1}

    def state(self) -> StrategyState:
        """The start that was taken out of the base."""
        return self._rest.state()

    def load_state(self, state: StrategyState) -> None:
        """Take the start of a checkpoint out of the base."""
        self._rest.restore(self._view, self._config, state)

    def export(
        self, view: ModelView, config: LoraConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraConfig, Mapping[str, Tensor]]:
        """Turn an adapter on a base that its start was taken out of into one of twice the rank on the plain base.

        With W = R + s B0 A0 at the start, R + s B A = W + s [B, -B0] [A; A0] (PEFT's conversion, done here in memory).
        """
        # A saved adapter needs no start of its own: what it starts with is in its tensors.
        config = settled(config, _adapted(view)).model_copy(update={"init": "default"})
        if not self._rest.start:
            return config, tensors
        saved = dict(tensors)
        for path, pair in self._rest.start.items():
            a, b = (f"{FILE_PREFIX}{path}.lora_{half}.weight" for half in "AB")
            saved[a] = torch.cat([tensors[a], pair.a], dim=0)  # (2 rank, in_features)
            saved[b] = torch.cat([tensors[b], -pair.b], dim=1)  # (out_features, 2 rank)
        # The scale alpha / rank (or alpha / sqrt(rank)) has to stay what it was.
        factor = math.sqrt(2) if config.rslora else 2.0
        twice = {
            "rank": 2 * config.rank,
            "alpha": factor * alpha_of(config),
            "rank_pattern": {pattern: 2 * rank for pattern, rank in config.rank_pattern.items()},
            "alpha_pattern": {pattern: factor * alpha for pattern, alpha in config.alpha_pattern.items()},
        }
        return config.model_copy(update=twice), saved

    def peft_config(self, view: ModelView, config: LoraConfig) -> Mapping[str, Any]:
        """PEFT's own configuration of the same adapter."""
        layers = lora_layers(view)
        # What was wrapped; asked for again by name, the layers would not be found behind their wrappers.
        peft_config = _in_peft(config, [path for path, _ in layers])
        by_parameter = as_parameters(view.model, config, [path for path, _ in layers])
        experts = [path for path, _ in expert_layers(view)]
        if by_parameter or experts:
            modules = [path for path, _ in layers if path not in by_parameter]
            peft_config = _in_peft(in_parameters(settled(config, _adapted(view)), by_parameter), modules)
            peft_config.target_parameters = [*(f"{path}.weight" for path in by_parameter), *experts]
            peft_config.lora_dropout = 0.0  # which PEFT has for modules alone, and which is off once training is over
        peft_config.bias = config.bias
        peft_config.init_lora_weights = True
        peft_config.fan_in_fan_out = any(is_transposed(layer.get_base_layer()) for _, layer in layers)
        peft_config.inference_mode = True
        return {key: sorted(value) if isinstance(value, set) else value for key, value in peft_config.to_dict().items()}

    def merge(self, view: ModelView, config: LoraConfig, tensors: Mapping[str, Tensor]) -> None:
        """Add the updates to the base weights, in place.

        Raises:
            NotSupportedError: on a quantized base, where adding would round the update away.
        """
        for path, _ in lora_layers(view):
            if view.is_quantized(f"{path}.base_layer"):
                raise NotSupportedError(f"lora: '{path}' is quantized; merge into the unquantized base instead")
        for path, layer in expert_layers(view):
            if layer.get_param() is not layer.get_base_layer()._parameters[layer.parameter_name]:
                raise NotSupportedError(f"lora: '{path}' is quantized; merge into the unquantized base instead")
        for _, layer in (*lora_layers(view), *expert_layers(view)):
            layer.merge(safe_merge=True, adapter_names=[ADAPTER])

    def updates(
        self, config: LoraConfig, tensors: Mapping[str, Tensor]
    ) -> Mapping[str, Callable[[Tensor, bool], Tensor]] | None:
        """The update of each weight, from the adapter's tensors alone."""
        return weight_updates(tensors, config)

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
        layers = dict(lora_layers(view))
        for path in targets:
            layer, rank, scale = layers[path], rank_at(config, path), scale_at(config, path)
            quantized = view.weight(f"{path}.base_layer").float()
            lost = view.original_weight(path).to(quantized.device) - quantized  # (out_features, in_features)
            u, s, v = torch.linalg.svd(lost, full_matrices=False)
            root = s[:rank].sqrt()
            # A weight smaller than the rank has fewer directions than there is room for; the rest starts at zero.
            a, b = layer.lora_A[ADAPTER].weight.data.zero_(), layer.lora_B[ADAPTER].weight.data.zero_()
            a[: len(root)] = root[:, None] * v[:rank]
            b[:, : len(root)] = u[:, :rank] * root / scale


def _tell_of_convolutions(view: ModelView) -> None:
    """Let wrapped convolutions say of themselves what models ask them before they run them, as MobileNet's tf_padding."""
    for _, layer in lora_layers(view):
        inner = layer.get_base_layer()
        if isinstance(inner, nn.Conv2d):
            layer.stride, layer.kernel_size, layer.dilation = inner.stride, inner.kernel_size, inner.dilation


def _in_peft(config: LoraConfig, targets: list[str]) -> PeftLoraConfig:
    """PEFT's configuration for wrapping some layers."""
    return PeftLoraConfig(
        r=config.rank,
        lora_alpha=alpha_of(config),
        lora_dropout=config.dropout,
        target_modules=targets,
        rank_pattern=dict(config.rank_pattern),
        alpha_pattern=dict(config.alpha_pattern),
        use_rslora=config.rslora,
        use_dora=config.dora,
        init_lora_weights="gaussian" if config.init == "gaussian" else True,
    )


def _adapted(view: ModelView) -> list[str]:
    """Paths of everything that has an update."""
    return [path for path, _ in (*lora_layers(view), *expert_layers(view))]


def _trained(view: ModelView, config: LoraConfig) -> dict[str, nn.Parameter]:
    """Everything that trains, the factors in fp32."""
    factors = parameters_of(view)
    for parameter in factors.values():
        parameter.data = parameter.data.float()
    return {**factors, **bias_parameters(view, config)}


def _spread_ranks(view: ModelView, config: LoraConfig, directions: Mapping[str, Tensor]) -> LoraConfig:
    """Give each layer the rank of its directions, which its A starts with, and return the options that make these ranks.

    Scales stay what they are, and a layer of rank 0 is unwrapped.
    """
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for path, layer in lora_layers(view):
        rank, before = len(directions[path]), rank_at(config, path)
        if rank == 0:
            view.replace(path, layer.get_base_layer())
            continue
        alpha = alpha_at(config, path)
        if rank != before:
            alpha *= rank / before
            layer.update_layer(ADAPTER, r=rank, lora_alpha=alpha, config=_in_peft(config, [path]))
        layer.lora_A[ADAPTER].weight.data.copy_(directions[path])
        if rank != config.rank:
            ranks[pattern_of(path)] = rank
        if alpha != alpha_of(config):
            alphas[pattern_of(path)] = alpha
    kept = [path for path, directions_of_path in directions.items() if len(directions_of_path)]
    spread = {"targets": ",".join(kept), "top_layers": None, "rank_pattern": ranks, "alpha_pattern": alphas}
    return config.model_copy(update=spread)
