"""Updates of the weight matrices of experts that lie in one parameter, as PEFT's `target_parameters` has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor

from adapterhub_lite.api import ModelView, NotSupportedError, matrices, noted, stored_shape
from adapterhub_lora import LoraConfig
from adapterhub_lora.layers import ADAPTER
from adapterhub_lora.scales import alpha_at, pattern_of, rank_at


class ExpertsLora(ParamWrapper):  # type: ignore[misc]
    """PEFT's wrapper of a parameter (experts, rows, columns), one pair of factors an expert, with another way forward.

    A is (experts * rank, in_features) and B (out_features, rank * experts), laid out as PEFT lays them out. The sum of
    parameter and update is there while the experts run, and added up again for the backward pass.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the experts with the update on the parameter."""
        base, name = self.get_base_layer(), self.parameter_name
        weight = base._parameters[name]
        terms = _Terms(weight, *self.get_delta_factors(ADAPTER))
        # In the place of the parameter, which code of the model looks up by its name.
        base._parameters[name] = terms.sum()
        try:
            with noted(base._parameters[name], terms.sum):
                return self.base_layer(*args, **kwargs)
        finally:
            base._parameters[name] = weight

    def get_param(self) -> Tensor:
        """The parameter, or what is like it but for its numbers where it is in 4 bits."""
        weight = self.get_base_layer()._parameters[self.parameter_name]
        shape = stored_shape(weight)
        if len(shape) == weight.dim():
            return weight
        return torch.empty(1, dtype=matrices(weight, 0, 1).dtype, device=weight.device).expand(shape)


class _Terms(NamedTuple):
    """A parameter and the factors of its update."""

    weight: Tensor  # (experts, rows, columns), or these in 4 bits
    left: Tensor  # (experts, rows, rank)
    right: Tensor  # (experts, rank, columns)
    scale: float

    def sum(self, first: int = 0, last: int | None = None) -> Tensor:
        """For some of the experts; all unless told."""
        weight = matrices(self.weight, first, last)
        return torch.baddbmm(weight, self.left[first:last], self.right[first:last], alpha=self.scale)


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
