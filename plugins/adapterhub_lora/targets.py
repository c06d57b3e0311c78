"""Which layers an adapter is for, and which biases of the base it trains along."""

from __future__ import annotations

import re

from torch import nn

from adapterhub_lite.api import ConfigError, ModelView, NotSupportedError
from adapterhub_lora import LoraConfig
from adapterhub_lora.layers import lora_layers
from adapterhub_lora.scales import fits
from adapterhub_lora.updates import FILE_PREFIX

PLAIN_STARTS = ("default", "gaussian")
"""Starts that look neither at weights nor at data."""
EXPRESSION = "re:"
"""What a regular expression for targets begins with."""


def find_targets(view: ModelView, config: LoraConfig) -> list[str]:
    """Resolve the options `targets` and `top_layers` to paths: of modules, and of the parameters of stacked experts.

    Raises:
        ConfigError: a name that fits no weight matrix of this model, with those there are; more layers than there are;
            an expression that is none; a pattern for ranks or scales that fits no target.
        NotSupportedError: attention asked for in a model that has none; experts with options that have no form for them.
    """
    chosen = _by_kind(view, config.targets)
    experts = [path for path in chosen if path in view.map.experts]
    if experts and (config.dora or config.init not in PLAIN_STARTS):
        if config.targets != "all":
            raise NotSupportedError(
                f"lora: '{experts[0]}' holds the matrices of several experts, for which there is neither dora nor "
                f"init={config.init}; use dora=false and init=default, or other targets"
            )
        chosen = [path for path in chosen if path not in experts]
    if config.top_layers is not None:
        layers = view.map.layers
        if config.top_layers > len(layers):
            raise ConfigError(f"lora: top_layers={config.top_layers}, but this model has {len(layers)} layers")
        kept = tuple(f"{path}." for path in layers[-config.top_layers :])
        inside = [path for path in chosen if path.startswith(kept)]
        if not inside:
            raise ConfigError(f"lora: targets={config.targets} has nothing in the last {config.top_layers} layers")
        chosen = inside
    for option, patterns in (("rank_pattern", config.rank_pattern), ("alpha_pattern", config.alpha_pattern)):
        for pattern in patterns:
            if not any(_fits(option, pattern, path) for path in chosen):
                raise ConfigError(f"lora: {option} has {pattern!r}, which fits none of the {len(chosen)} targets")
    return chosen


def train_biases(view: ModelView, config: LoraConfig, targets: list[str]) -> None:
    """Put copies that train in the place of the biases that the option `bias` names; before layers are wrapped.

    Raises:
        ConfigError: there is no such bias.
    """
    if config.bias == "none":
        return
    named = [name for name, _ in view.model.named_parameters() if view.map.reaches(name)]
    own = {f"{path}.bias" for path in targets}
    names = [name for name in named if (name in own if config.bias == "lora_only" else _is_bias(name))]
    if not names:
        raise ConfigError(f"lora: bias={config.bias}, but there is none in this model; use bias=none")
    view.train_base(names)


def bias_parameters(view: ModelView, config: LoraConfig) -> dict[str, nn.Parameter]:
    """The biases that train, by the names that PEFT gives them in a file; after layers were wrapped."""
    own = {f"{path}.base_layer.bias" for path, _ in lora_layers(view)}
    return {
        f"{FILE_PREFIX}{name}": parameter
        for name, parameter in view.model.named_parameters()
        if (config.bias == "all" and _is_bias(name) and view.map.reaches(name))
        or (config.bias == "lora_only" and name in own)
    }


def _is_bias(name: str) -> bool:
    return name == "bias" or name.endswith(".bias")


def _by_kind(view: ModelView, wanted: str) -> list[str]:
    """Paths for the option `targets` alone."""
    if wanted in ("all", "all-linear"):
        matrices = [*view.map.linears, *(view.map.experts if wanted == "all" else ())]
        if not matrices:
            raise NotSupportedError("lora: this model has no weight matrices in its layers; use full or linear_probe")
        return matrices
    if wanted == "attention":
        if not view.map.attention_linears:
            raise NotSupportedError("lora: targets=attention, but this model has no attention; use targets=all")
        return list(view.map.attention_linears)
    everything = [path for path, module in view.model.named_modules() if _has_weight(module) and view.map.reaches(path)]
    everything += view.map.experts
    if wanted.startswith(EXPRESSION):
        try:
            chosen = [path for path in everything if re.fullmatch(wanted.removeprefix(EXPRESSION), path)]
        except re.error as error:
            raise ConfigError(f"lora: targets={wanted} is no regular expression: {error}") from None
        if not chosen:
            raise ConfigError(f"lora: targets={wanted} fits no weight matrix; there are: {_there(view)}")
        return chosen
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    chosen = []
    for name in names:
        paths = [path for path in everything if path == name or path.endswith(f".{name}")]
        if not paths:
            raise ConfigError(f"lora: targets={name} fits no weight matrix of this model; there are: {_there(view)}")
        chosen += [path for path in paths if path not in chosen]
    if not chosen:
        raise ConfigError("lora: targets is empty; use all, attention or names separated by commas")
    return chosen


def _there(view: ModelView) -> str:
    """The last names of the weight matrices of a model."""
    return ", ".join(sorted({path.rpartition(".")[2] for path in (*view.map.linears, *view.map.experts)}))


def _fits(option: str, pattern: str, path: str) -> bool:
    try:
        return fits(pattern, path)
    except re.error as error:
        raise ConfigError(f"lora: {option} has {pattern!r}, which is no regular expression: {error}") from None


def _has_weight(module: nn.Module) -> bool:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    return isinstance(module, kinds) or type(module).__name__ == "Conv1D"
