"""Quantizing a model that is in memory, as `load_base` does with one in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adapterhub_lite.base.quantization import quantization_config


def quantize_nf4(model: Any, linears: Sequence[str]) -> None:
    """Replace the weight matrices at these paths by NF4 ones, in place; one layer at a time.

    Raises:
        NotSupportedError: when bitsandbytes cannot be imported on this machine.
    """
    dtype = next(model.parameters()).dtype
    model.config.quantization_config = quantization_config("nf4", dtype)
    import bitsandbytes as bnb

    for path in linears:
        parent, _, name = path.rpartition(".")
        dense = model.get_submodule(path)
        # Conv1D keeps its matrix the other way round.
        weight = dense.weight.data if isinstance(dense, nn.Linear) else dense.weight.data.T  # (out, in)
        out_features, in_features = weight.shape
        layer = bnb.nn.Linear4bit(
            in_features, out_features, bias=dense.bias is not None, compute_dtype=dtype, quant_type="nf4"
        )
        layer.weight = bnb.nn.Params4bit(
            weight.contiguous(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=layer
        )
        if dense.bias is not None:
            layer.bias = nn.Parameter(dense.bias.data, requires_grad=False)
        setattr(model.get_submodule(parent), name, layer.to(torch.device("cpu")))
    model.is_loaded_in_4bit = True  # what PEFT asks a model that transformers quantized
    model.is_quantized = True
