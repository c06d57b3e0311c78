"""Running a program without computing: tensors have shapes, storages and a device, and nothing is ever written into them."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from adapterhub_lite.plan.storages import LiveStorages

aten = torch.ops.aten
MASKS = (torch.bool, torch.uint8)
COMPUTED = 64 << 20
"""Bytes that whole numbers and truths may take to be computed: ids, lengths and masks decide what a program does."""
RESERVING = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000} if sys.platform == "linux" else {}
"""MAP_NORESERVE, which Python has a name for from 3.13 on: the system does not ask whether it will have so much."""
RESERVED = 1 << 20
"""Bytes from which memory is asked for that is only reserved; what is smaller comes from where all tensors do."""


class CardAttention(TorchFunctionMode):
    """Attention as on a card, whose kernels draw dropout by themselves: a CPU writes the whole matrix of scores for it."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if function is functional.scaled_dot_product_attention and "dropout_p" in given:
            given = {**given, "dropout_p": 0.0}
        return function(*args, **given)


@dataclass(frozen=True)
class _Made:
    """What an operation gives for one of its outputs: an argument, by its place among the tensors, or a new tensor."""

    argument: int | None
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    nbytes: int = 0
    is_view: bool = False


class Imagined(LiveStorages):
    """Counts the live storages of a program of which nothing that has floating-point numbers is computed.

    Tensors are ordinary ones, in memory that is asked for and never touched, so that it costs none; the kernels that would
    run are chosen as ever, and autograd keeps what it would keep. Operations on whole numbers and truths are done, so
    that masks, lengths and labels lead where they would lead; weights that are there are read by nothing and stay as they
    are. Where a program asks for a floating-point number it gets 1, and conditions on such numbers hold.

    Args:
        like: One that ran before, whose answers about shapes are used again.
    """

    def __init__(self, like: Imagined | None = None) -> None:
        super().__init__()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._operations: dict[Any, tuple[Any, list[Any]]] = like._operations if like is not None else {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self._result(function, args, kwargs or {})
        self.note(result)
        return result

    def _result(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is aten._local_scalar_dense.default and args[0].is_floating_point():
            return 1.0
        if function is aten.equal.default and args[0].is_floating_point():
            return True
        if function in (
            aten.index.Tensor,
            aten.index_put_.default,
            aten._index_put_impl_.default,
            aten.index_put.default,
        ):
            args = (args[0], _as_numbers(args[1]), *args[2:])
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        whole = not any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors)
        try:
            out_spec, outputs = self._outputs(function, leaves, spec)
        except (DataDependentOutputException, DynamicOutputShapeException):
            if not whole:
                raise
            return function(*args, **kwargs)
        made = [output for output in outputs if isinstance(output, _Made)]
        if any(output.is_view for output in made):
            return function(*args, **kwargs)  # another look at the same memory
        size = sum(output.nbytes for output in made) + sum(tensor.nbytes for tensor in tensors)
        if whole and size <= COMPUTED and not any(output.dtype.is_floating_point for output in made):
            return function(*args, **kwargs)
        return tree_unflatten([_tensor_for(output, tensors) for output in outputs], out_spec)

    def _outputs(self, function: Any, leaves: list[Any], spec: Any) -> tuple[Any, list[Any]]:
        """What an operation gives, as torch says of tensors of these shapes; asked once for each kind of call."""
        key = (function, spec, tuple(map(_kind, leaves)))
        if key in self._operations:
            return self._operations[key]
        with self._fake:
            fakes = [_like(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            args, kwargs = tree_unflatten(fakes, spec)
            outputs, out_spec = tree_flatten(function(*args, **kwargs))
        given = [fake for fake in fakes if isinstance(fake, Tensor)]
        known = out_spec, [_made(output, given) if isinstance(output, Tensor) else output for output in outputs]
        self._operations[key] = known
        return known


def _kind(leaf: Any) -> Any:
    """All of an argument that outputs depend on."""
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.storage_offset() == 0
    return type(leaf), leaf


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _made(output: Tensor, given: list[Tensor]) -> _Made:
    for place, tensor in enumerate(given):
        if output is tensor:
            return _Made(place, dtype=tensor.dtype)
    storages = {tensor.untyped_storage()._cdata for tensor in given}
    storage = output.untyped_storage()
    return _Made(None, tuple(output.shape), output.stride(), output.dtype, storage.nbytes(), storage._cdata in storages)


def _tensor_for(output: Any, tensors: list[Tensor]) -> Any:
    if not isinstance(output, _Made):
        return output
    if output.argument is not None:
        return tensors[output.argument]
    if not output.dtype.is_floating_point and output.nbytes <= COMPUTED:
        # A condition on numbers that are not there holds, and a place that is computed from them is the first.
        tensor = torch.empty_strided(output.shape, output.stride, dtype=output.dtype)
        return tensor.fill_(output.dtype == torch.bool)
    if output.nbytes < RESERVED:
        return torch.empty_strided(output.shape, output.stride, dtype=output.dtype)
    memory = torch.frombuffer(mmap.mmap(-1, output.nbytes, **RESERVING), dtype=torch.uint8)
    empty = torch.empty(0, dtype=output.dtype)
    return empty.set_(memory.untyped_storage(), 0, output.shape, output.stride)


def _as_numbers(chosen: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Masks among indices as the places that they let through, whose number shapes depend on."""
    numbers: list[Tensor | None] = []
    for index in chosen:
        is_mask = index is not None and index.dtype in MASKS
        numbers += list(index.nonzero(as_tuple=True)) if index is not None and is_mask else [index]
    return numbers
