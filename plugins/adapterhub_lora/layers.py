"""The layers that are wrapped, their weights, and the adapter's parameters."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adapterhub_lite.api import ModelView
from adapterhub_lora.updates import FILE_PREFIX

ADAPTER = "default"


def lora_layers(view: ModelView) -> list[tuple[str, Any]]:
    """Path and wrapper of each layer that has an update, stacked experts apart."""
    return [(path, module) for path, module in _wrapped(view) if not isinstance(module, ParamWrapper)]


def expert_layers(view: ModelView) -> list[tuple[str, Any]]:
    """Path of each parameter of stacked experts that has an update, and its wrapper."""
    wrappers = [(path, module) for path, module in _wrapped(view) if isinstance(module, ParamWrapper)]
    return [(f"{path.replace('.base_layer', '')}.{module.parameter_name}", module) for path, module in wrappers]


def _wrapped(view: ModelView) -> list[tuple[str, BaseTunerLayer]]:
    return [(path, module) for path, module in view.model.named_modules() if isinstance(module, BaseTunerLayer)]


def parameters_of(view: ModelView) -> dict[str, nn.Parameter]:
    """The factors, and DoRA's magnitudes, by the names that PEFT gives them in a file."""
    parameters: dict[str, nn.Parameter] = {}
    for path, layer in _wrapped(view):
        for name, parameter in layer.named_parameters():
            if not name.startswith("lora_"):
                continue
            kind, _, rest = name.partition(f".{ADAPTER}")
            # A magnitude vector is a module in memory and a bare tensor in a file.
            inside = "" if kind == "lora_magnitude_vector" else rest
            parameters[f"{FILE_PREFIX}{path}.{kind}{inside}"] = parameter
    return parameters


def is_transposed(module: nn.Module) -> bool:
    """Whether a layer stores its weight as (in_features, out_features), as GPT-2's does."""
    return type(module).__name__ == "Conv1D"


def matrix_of(module: nn.Module) -> Tensor:
    """The weight of a linear layer of the base, (out_features, in_features), in fp32."""
    weight = module.get_parameter("weight").data.float()
    return weight.T if is_transposed(module) else weight
