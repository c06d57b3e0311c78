"""Quantization through bitsandbytes: the only module that knows the library. See Dettmers et al. 2023 (QLoRA) for NF4."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterhub_lite.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator


def quantization_config(name: str, dtype: torch.dtype) -> Any:
    """Build transformers' configuration: 4 bits with double quantization, or 8 bits, computing in `dtype`.

    Raises:
        NotSupportedError: when bitsandbytes cannot be imported on this machine.
    """
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_no_cast_remarks)
    with _quiet():
        try:
            import bitsandbytes  # noqa: F401
            from transformers import BitsAndBytesConfig
        except Exception as error:
            raise NotSupportedError(
                f"quantization '{name}' needs bitsandbytes, which cannot be imported here "
                f"({type(error).__name__}: {error}); pip install bitsandbytes, or use --quantize none"
            ) from error
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=name,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,  # unless told, it computes in fp32
    )


def make_trainable(model: nn.Module) -> None:
    """Keep 4-bit weights in the layout that gradients can pass.

    On a CPU with AVX512-BF16 bitsandbytes repacks a `Linear4bit` in place on its first forward without gradients; a
    training pass after that gives everything below no gradient, and no error. The flag below is what stops it.
    """
    for module in model.modules():
        if "support_avx512bf16_for_cpu" in vars(module):
            vars(module)["support_avx512bf16_for_cpu"] = False


def is_quantized(module: nn.Module) -> bool:
    """Whether the weight of this layer is stored in 4 or 8 bits."""
    return type(getattr(module, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def stored_transposed(module: nn.Module) -> bool:
    """Whether a quantized layer stands for a `Conv1D` (GPT-2), whose weight lies in files as (in_features, out_features)."""
    return getattr(getattr(module, "source_cls", None), "__name__", "") == "Conv1D"


def dequantized(module: nn.Module) -> Tensor:
    """The weight that a quantized layer computes with, as floating-point numbers (out_features, in_features)."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    weight = dequantize_bnb_weight(module.weight, getattr(module, "state", None))
    return weight if isinstance(weight, Tensor) else torch.as_tensor(weight)


def _no_cast_remarks(record: logging.LogRecord) -> bool:
    """Drop what bitsandbytes says about int8 inputs, once for every layer and forward pass."""
    return "inputs will be cast" not in record.getMessage()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back a remark on an optional kernel package that bitsandbytes makes on every import on a CPU."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
