"""A LoRA adapter that PEFT trained, as one of ours; ranks and scales that differ by layer stay what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from torch import Tensor

from adapterhub_lite.api import ModelView, NotSupportedError, refuse_settings, stored_shape
from adapterhub_lora.scales import by_pattern, pattern_of
from adapterhub_lora.updates import FILE_PREFIX, is_bias

# Settings that change nothing of what a trained LoRA adapter computes, or that can be read off its tensors.
KNOWN = frozenset(
    {
        "r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters", "exclude_modules", "use_rslora",
        "use_dora", "rank_pattern",
        "alpha_pattern", "layers_to_transform", "layers_pattern", "init_lora_weights", "fan_in_fan_out",
        "modules_to_save", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "bias",
        "runtime_config", "ensure_weight_tying",
        "megatron_config", "megatron_core",
    }
)  # fmt: skip
ADALORA = frozenset(
    {
        "init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step",
    }
)  # fmt: skip
"""Settings of AdaLoRA alone: its schedule, and the rank it began with."""
SAVED_IN = (torch.float32, torch.bfloat16, torch.float16)
"""What PEFT may have saved a weight of the base in, which has 16 bits where the model was run in 16."""
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to start that leave the base as it was; with the others the adapter sits on a base that was changed."""


def from_peft(
    view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Take over rsLoRA, DoRA, any choice of layers, ranks and scales by layer, trained biases; and AdaLoRA, a plain LoRA at last.

    Args:
        view: The base.
        config: PEFT's configuration.
        tensors: PEFT's tensors in fp32.

    Returns:
        Settings and tensors; None for another method of PEFT.

    Raises:
        NotSupportedError: a setting or a tensor that cannot be represented; names it.
    """
    method = config["peft_type"].lower()
    if method not in ("lora", "adalora"):
        return None
    known = (KNOWN | ADALORA) - {"bias"} if method == "adalora" else KNOWN
    refuse_settings(config, known, PeftLoraConfig().to_dict())
    if method == "adalora":
        return _from_adalora(view, config, tensors)
    start = config.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        raise NotSupportedError(
            f"init_lora_weights={start!r} changed the base before training; convert it with PEFT's "
            "`save_pretrained(path_initial_model_for_weight_conversion=...)` first"
        )
    bias = config.get("bias") or "none"
    if bias not in ("none", "all", "lora_only"):
        raise NotSupportedError(f"bias={bias!r} cannot be represented here, only none, all and lora_only")
    layers = _by_parameter(view, _layers(view, tensors), config.get("target_parameters") or ())
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    stacked = {path: stored_shape(view.model.get_parameter(path))[0] for path in view.map.experts}
    ranks = {path: len(tensors[names["A"]]) // stacked.get(path, 1) for path, names in layers.items()}
    alphas = {path: float(by_pattern(config.get("alpha_pattern") or {}, path, alpha)) for path in layers}
    settings = {
        "rank": rank, "alpha": alpha, "dropout": float(config.get("lora_dropout") or 0),
        "rslora": bool(config.get("use_rslora")), "dora": bool(config.get("use_dora")), "bias": bias,
        "targets": ",".join(sorted(layers)),
        "rank_pattern": {pattern_of(path): own for path, own in ranks.items() if own != rank},
        "alpha_pattern": {pattern_of(path): own for path, own in alphas.items() if own != alpha},
    }  # fmt: skip
    own = [name for names in layers.values() for name in names.values()] + [name for name in tensors if is_bias(name)]
    return settings, {name: tensors[name].contiguous() for name in own}


def _from_adalora(
    view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The updates B diag(E) A of AdaLoRA (Zhang et al. 2023) as B A, whatever rank each layer was left with.

    PEFT scales all of them by alpha / (init_r + 1e-5), and by init_r / (init_r + 1e-5) where alpha is not above 0.
    """
    first, alpha = float(config["init_r"]), float(config["lora_alpha"])
    scale = (alpha if alpha > 0 else first) / (first + 1e-5)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        path, dot, kind = name.removeprefix(FILE_PREFIX).rpartition(".lora_")
        if not dot or kind not in ("A", "B", "E"):
            raise NotSupportedError(f"tensor '{name.removeprefix(FILE_PREFIX)}' is no part of an AdaLoRA update")
        parts.setdefault(path, {})[kind] = tensor
    for path, part in parts.items():
        if missing := {"A", "B", "E"} - part.keys():
            raise NotSupportedError(f"tensor '{path}.lora_{min(missing)}' of an AdaLoRA update is missing")
    there = {path for path, _ in view.model.named_modules()}
    for path in parts.keys() - there:
        raise NotSupportedError(f"'{path}' has no place in this base")
    rank = max(1, *(len(part["A"]) for part in parts.values()))
    made: dict[str, Tensor] = {}
    for path, part in parts.items():
        a, b = part["A"] * part["E"], part["B"]
        a = torch.cat([a, a.new_zeros(rank - len(a), a.shape[1])])
        b = torch.cat([b, b.new_zeros(len(b), rank - b.shape[1])], dim=1)
        around = view.weight(path).shape[2:]  # of the kernel, in a convolution
        made[f"{FILE_PREFIX}{path}.lora_A.weight"] = a.reshape(rank, -1, *around).contiguous()
        made[f"{FILE_PREFIX}{path}.lora_B.weight"] = b.reshape(*b.shape, *(1 for _ in around)).contiguous()
    settings = {
        "rank": rank, "alpha": scale * rank, "dropout": float(config.get("lora_dropout") or 0),
        "targets": ",".join(sorted(parts)),
    }  # fmt: skip
    return settings, made


def _layers(view: ModelView, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """By path of the layer, the names of its tensors by kind: A, B and, for DoRA, magnitude_vector."""
    layers: dict[str, dict[str, str]] = {}
    for name, tensor in tensors.items():
        if is_bias(name):
            continue
        path, dot, kind = name.removeprefix(FILE_PREFIX).rpartition(".lora_")
        if not dot and _is_of_base(view, name.removeprefix(FILE_PREFIX), tensor):
            continue  # PEFT saves a whole embedding beside its update, though it did not train
        if not dot or kind not in ("A.weight", "B.weight", "magnitude_vector", "embedding_A", "embedding_B"):
            raise NotSupportedError(f"tensor '{name.removeprefix(FILE_PREFIX)}' is no part of a LoRA update")
        layers.setdefault(path, {})[kind.removesuffix(".weight").removeprefix("embedding_")] = name
    return layers


def _by_parameter(
    view: ModelView, layers: dict[str, dict[str, str]], wanted: Collection[str]
) -> dict[str, dict[str, str]]:
    """The same with the updates of stacked experts by the paths of their parameters.

    PEFT wraps a module once for each of its parameters, the first one innermost, and names updates by the wrappers.

    Raises:
        NotSupportedError: updates that fit no parameters of experts.
    """
    named = dict(layers)
    for owner in dict.fromkeys(path.rpartition(".")[0] for path in view.map.experts):
        own = [path for path in view.map.experts if path.rpartition(".")[0] == owner]
        targeted = [path for path in own if any(path == name or path.endswith(f".{name}") for name in wanted)]
        for depth, path in enumerate(reversed(targeted)):
            update = named.pop(owner + ".base_layer" * depth, None)
            if update is None:
                raise NotSupportedError(f"the update of '{path}', which target_parameters names, is missing")
            named[path] = update
    modules = {path for path, _ in view.model.named_modules()}
    for path in named.keys() - modules - {*view.map.experts}:
        raise NotSupportedError(f"'{path}' has no place in this base")
    return named


def _is_of_base(view: ModelView, name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a weight of the base as its files have it, whatever either side computed in."""
    try:
        loaded = view.model.get_parameter(name.replace(".base_layer.", "."))
    except AttributeError:
        return False
    if loaded.shape != tensor.shape:
        return False
    # A weight that has two names is in the files under the first.
    first = next(known for known, parameter in view.model.named_parameters() if parameter is loaded)
    weight = view.original_weight(first.removesuffix(".weight")).float().cpu()
    return any(torch.equal(weight.to(dtype).float(), tensor) for dtype in SAVED_IN)
