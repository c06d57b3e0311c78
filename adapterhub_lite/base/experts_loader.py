"""transformers' loader of 4-bit models, which stores linear layers, extended to the experts that lie in one parameter.

Each parameter is quantized when it is read, so that no more than one is whole at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from adapterhub_lite.base.experts import stacked
from adapterhub_lite.base.quantization import fits_blocks, packed_parameter

METHOD = "adapterhub_4bit"


class ExpertsConfig(BitsAndBytesConfig):  # type: ignore[misc]
    """bitsandbytes' configuration of 4 bits, by a name that leads to the loader below."""

    def __init__(self, **options: Any):
        super().__init__(**{**options, "load_in_4bit": True})
        self.quant_method = METHOD


def with_experts(recorded: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of the quantization of a base with experts in 4 bits, so that the loader below reads it."""
    return {key: value for key, value in recorded.items() if "load_in" not in key} | {"quant_method": METHOD}


class _Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    experts: frozenset[str] = frozenset()

    def _process_model_before_weight_loading(self, model: Any, **options: Any) -> Any:
        super()._process_model_before_weight_loading(model, **options)
        modules = list(model.named_modules())
        self.experts = frozenset(
            f"{path}.{name}" for path, module in modules for name, p in stacked(module) if fits_blocks(p)
        )
        for path in self.experts if self.pre_quantized else ():
            owner, _, name = path.rpartition(".")
            nothing = torch.empty(0, device="meta")  # which is filled in once the rest is loaded
            model.get_submodule(owner)._parameters[name] = nn.Parameter(nothing, requires_grad=False)
        return model

    def param_needs_quantization(self, model: Any, param_name: str, **options: Any) -> bool:
        return param_name in self.experts or super().param_needs_quantization(model, param_name, **options)

    def get_quantize_ops(self) -> Any:
        return _Quantize(self)

    def get_state_dict_and_metadata(self, model: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """What is saved: not the experts, which lie in a file of their own."""
        return {path: tensor for path, tensor in model.state_dict().items() if path not in self.experts}, {}

    def _process_model_after_weight_loading(self, model: Any, **options: Any) -> Any:
        # To everyone else, and in files, it is a model of bitsandbytes.
        self.quantization_config.quant_method = BitsAndBytesConfig(load_in_4bit=True).quant_method
        return super()._process_model_after_weight_loading(model, **options)


class _Quantize(Bnb4bitQuantize):  # type: ignore[misc]
    def convert(self, input_dict: dict[str, Any], **options: Any) -> dict[str, Any]:
        experts = {path: value for path, value in input_dict.items() if path in self.hf_quantizer.experts}
        others = {path: value for path, value in input_dict.items() if path not in experts}
        made = super().convert(others, **options) if others else {}
        for path, value in experts.items():
            whole = value[0] if isinstance(value, list) else value
            made[path] = packed_parameter(whole, self.hf_quantizer.quantization_config.bnb_4bit_quant_type)
        return made


if METHOD not in AUTO_QUANTIZER_MAPPING:
    register_quantizer(METHOD)(_Quantizer)
    register_quantization_config(METHOD)(ExpertsConfig)
