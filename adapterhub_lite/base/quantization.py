"""Quantization through bitsandbytes: the only module that knows the library. See Dettmers et al. 2023 (QLoRA) for NF4."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.errors import NotSupportedError

BLOCK = 64
"""Weights that have a scale in common."""


def quantization_config(name: str, dtype: torch.dtype) -> Any:
    """Build transformers' configuration: 4 bits with double quantization, or 8 bits, computing in `dtype`.

    Raises:
        NotSupportedError: when bitsandbytes cannot be imported on this machine.
    """
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig

        from adapterhub_lite.base.experts_loader import ExpertsConfig
    except Exception as error:
        raise NotSupportedError(
            f"quantization '{name}' needs bitsandbytes, which cannot be imported here "
            f"({type(error).__name__}: {error}); pip install bitsandbytes, or use --quantize none"
        ) from error
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return ExpertsConfig(
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


def unpack_misread(model: nn.Module) -> int:
    """Put a dense layer in the place of every 4-bit one that this machine reads wrongly, and return how many those are.

    bitsandbytes 0.50 on a CPU with AVX512 dequantizes as if no block of 64 weights went on into the next row: with, say,
    96 inputs a layer its weights are off by a quarter, with no error. The dense layer holds what the 4 bits stand for.
    """
    misread = 0
    for path, module in list(model.named_modules()):
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None or module.in_features % state.blocksize == 0:
            continue
        exact = _dequantized_as_one_row(module).reshape(state.shape)
        if torch.allclose(exact, dequantized(module), rtol=1e-2, atol=1e-6):
            continue
        dense = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
        dense.weight, dense.bias = nn.Parameter(exact, requires_grad=False), module.bias
        dense.train(module.training)
        if hasattr(module, "source_cls"):
            dense.source_cls = module.source_cls
        model.set_submodule(path, dense)
        misread += 1
    return misread


def _dequantized_as_one_row(module: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit

    state = copy.copy(module.weight.quant_state)
    state.shape = torch.Size([1, state.shape.numel()])
    weight: Tensor = dequantize_4bit(module.weight.data, state)
    return weight


def keep_quantization(model: nn.Module) -> None:
    """Let 4-bit layers find how their weight is to be read in themselves, where the weight is replaced by its like.

    Raises:
        NotSupportedError: for 8-bit layers and experts in 4 bits, which keep it in the weight alone.
    """
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name != "weight" and type(parameter).__name__ == "Params4bit":
                raise NotSupportedError(
                    f"--shard does not go with experts in 4 bits ({path}.{name}); use --quantize none"
                )
        weight: Any = getattr(module, "weight", None)
        if type(weight).__name__ == "Params4bit":
            module.quant_state = weight.quant_state
        elif type(weight).__name__ == "Int8Params":
            raise NotSupportedError("--shard does not go with --quantize int8; use --quantize nf4 or none")


def is_quantized(module: nn.Module) -> bool:
    """Whether the weight of this layer is stored in 4 or 8 bits."""
    return type(getattr(module, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def numel(parameter: nn.Parameter) -> int:
    """Number of weights that a parameter stands for, however it is stored."""
    return stored_shape(parameter).numel()


def stored_shape(parameter: Tensor) -> torch.Size:
    """The shape that a parameter stands for, however it is stored."""
    state = getattr(parameter, "quant_state", None)
    return parameter.shape if state is None else torch.Size(state.shape)


def fits_blocks(experts: Tensor) -> bool:
    """Whether the blocks that have a scale in common each lie in one expert, of a parameter (experts, rows, columns)."""
    return experts[0].numel() % BLOCK == 0


def packed_parameter(whole: Tensor, quant_type: str) -> nn.Parameter:
    """A parameter in 4 bits, with double quantization."""
    from bitsandbytes.nn import Params4bit

    options = {"blocksize": BLOCK, "compress_statistics": True, "quant_type": quant_type}
    made: nn.Parameter = Params4bit(whole, requires_grad=False, **options).to(whole.device)
    return made


def packed_tensors(parameter: Any) -> dict[str, Tensor]:
    """What a parameter in 4 bits is made of: its bytes, and how they are to be read."""
    return {"bytes": parameter.data, **parameter.quant_state.as_dict(packed=True)}


def packed_from(tensors: dict[str, Tensor], device: torch.device) -> nn.Parameter:
    """The inverse of `packed_tensors`."""
    from bitsandbytes.nn import Params4bit

    made: nn.Parameter = Params4bit.from_prequantized(tensors.pop("bytes"), tensors, device=device)
    return made


def dequantized_part(parameter: Any, first: int, last: int | None) -> Tensor:
    """The matrices of some of the experts that lie in a parameter in 4 bits: (experts, rows, columns)."""
    from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise

    state = parameter.quant_state
    experts, *matrix = state.shape
    first, last, _ = slice(first, last).indices(experts)
    blocks = torch.Size(matrix).numel() // state.blocksize  # of an expert
    # The scales are themselves quantized, in blocks of their own.
    scales, start, stop = state.state2, first * blocks, last * blocks
    begin, end = start // scales.blocksize, -(-stop // scales.blocksize)
    absmax = dequantize_blockwise(
        state.absmax[begin * scales.blocksize : end * scales.blocksize],
        absmax=scales.absmax[begin:end], code=scales.code, blocksize=scales.blocksize,
    )[start - begin * scales.blocksize : stop - begin * scales.blocksize] + state.offset  # fmt: skip
    # As one row, since rows that end within a block are misread on some machines; see `unpack_misread`.
    row = torch.Size([1, (last - first) * blocks * state.blocksize])
    part = QuantState(absmax, row, state.code, state.blocksize, state.quant_type, state.dtype)
    bytes_of = state.blocksize // 2
    numbers = dequantize_4bit(parameter.data[start * bytes_of : stop * bytes_of], part)
    return numbers.reshape(last - first, *matrix)


def stored_transposed(module: nn.Module) -> bool:
    """Whether a quantized layer stands for a `Conv1D` (GPT-2), whose weight lies in files as (in_features, out_features)."""
    return getattr(getattr(module, "source_cls", None), "__name__", "") == "Conv1D"


def dequantized(module: nn.Module) -> Tensor:
    """The weight that a quantized layer computes with, as floating-point numbers (out_features, in_features)."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    weight = dequantize_bnb_weight(module.weight, getattr(module, "state", None))
    return weight if isinstance(weight, Tensor) else torch.as_tensor(weight)


def dense_weight(module: nn.Module) -> Tensor:
    """The weight of a layer as floating-point numbers, dequantized where needed; as it is stored where it is not."""
    return dequantized(module) if is_quantized(module) else module.get_parameter("weight").data


def _worth_saying(record: logging.LogRecord) -> bool:
    """Drop what bitsandbytes says on every import on a CPU, and at every int8 layer of every forward pass."""
    text = record.getMessage()
    return "inputs will be cast" not in text and "gemm_4bit_forward" not in text


for _name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
    logging.getLogger(_name).addFilter(_worth_saying)
