"""Updates of the weight matrices of experts that lie in one parameter, as PEFT's `target_parameters` has them."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from adapterhub_lite.api import ModelView, NotSupportedError
from adapterhub_lora import LoraConfig
from adapterhub_lora.layers import ADAPTER
from adapterhub_lora.scales import alpha_at, pattern_of, rank_at


class ExpertsLora(ParamWrapper):  # type: ignore[misc]
    """PEFT's wrapper of a parameter (experts, rows, columns), one pair of factors an expert, with a shorter way forward.

    A is (experts * rank, in_features) and B (out_features, rank * experts), laid out as PEFT lays them out. The sum of
    parameter and update exists while the experts run, and its gradient in the backward pass.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the experts with the update on the parameter."""
        base, name = self.get_base_layer(), self.parameter_name
        if is_parametrized(base, name):  # held in 4 bits
            return super().forward(*args, **kwargs)
        weight = base._parameters[name]
        left, right, scale = self.get_delta_factors(ADAPTER)
        # In the place of the parameter, which code of the model looks up by its name.
        base._parameters[name] = _sum(weight, left, right, scale)
        try:
            return self.base_layer(*args, **kwargs)
        finally:
            base._parameters[name] = weight


def _sum(weight: nn.Parameter, left: Tensor, right: Tensor, scale: float) -> Tensor:
    return torch.baddbmm(weight, left, right, alpha=scale)  # (experts, rows, columns)


def wrap_experts(view: ModelView, config: LoraConfig, paths: list[str], options: PeftLoraConfig) -> None:
    """Put wrappers around the modules that hold these parameters; the first of a module is the innermost, as in PEFT."""
    for path in paths:
        owner, _, name = path.rpartition(".")
        rank, alpha = rank_at(config, path), alpha_at(config, path)
        wrapper = ExpertsLora(
            view.module(owner), ADAPTER, parameter_name=name, config=options, r=rank, lora_alpha=alpha
        )
        view.replace(owner, wrapper)


def as_parameters(model: Any, config: LoraConfig, paths: list[str]) -> list[str]:
    """The paths of those layers whose weights PEFT has to be given as parameters, of all that are adapted.

    In a model of a type that once had its experts in layers, such as DeepSeek-V3 and Qwen3-Next, PEFT takes layers of
    the same names (up_proj of a dense block or a shared expert) for such experts, and opens nothing under these names.
    It leaves parameters alone, and the update of a layer's weight is the same as that of the layer.

    Raises:
        NotSupportedError: with DoRA, which PEFT has for layers alone.
    """
    leaves = {path.rpartition(".")[2] for path in paths}
    taken = {leaf for leaf in leaves if not _left_alone(model, leaf)}
    named = [path for path in paths if path.rpartition(".")[2] in taken]
    if named and config.dora:
        raise NotSupportedError(
            f"lora: PEFT would not open an adapter with dora of '{named[0]}' in a model of type "
            f"'{model.config.model_type}'; use dora=false"
        )
    return named


def in_parameters(config: LoraConfig, paths: list[str]) -> LoraConfig:
    """A config with a pattern for each layer, in which those for the layers at these paths are for their weights."""
    names = {pattern_of(path): pattern_of(f"{path}.weight") for path in paths}
    own = {
        option: {names.get(pattern, pattern): value for pattern, value in getattr(config, option).items()}
        for option in ("rank_pattern", "alpha_pattern")
    }
    return config.model_copy(update=own)


def _left_alone(model: Any, name: str) -> bool:
    asked = PeftLoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(asked, model, None)
    except ValueError:  # it takes the name for one of several that go together
        return False
    return name in asked.target_modules
