"""A bound on the memory that a saved adapter may ask for before its tensors have been compared with its slots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adapterhub_lite.errors import AdapterCorruptError

FREE = 64 << 20
"""Bytes anyone may allocate; above it, what is asked for must be in proportion to the file."""

_FACTORIES = {
    "aten::empty", "aten::empty_strided", "aten::zeros", "aten::ones", "aten::full", "aten::rand", "aten::randn",
    "aten::new_empty", "aten::new_zeros", "aten::new_ones", "aten::new_full",
}  # fmt: skip


class AllocationLimit(TorchDispatchMode):
    """While entered, refuses new tensors that an adapter of this size has no use for.

    A configuration of a few bytes can ask for a rank of a billion. A strategy needs about as much memory to hold an
    adapter as the file is large, so `FREE` and several times the file are the limit. Memory that is freed again counts
    too, and a strategy may dequantize every weight of the base in turn, so the limit grows with the base.
    """

    def __init__(self, file_bytes: int, where: str, base_weights: int = 0):
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = FREE + 8 * file_bytes + 16 * base_weights
        self.where = where
        self.used = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what a factory is about to make; everything else passes."""
        options = dict(kwargs or {})
        if func._schema.name in _FACTORIES:
            size = options.get("size", next((a for a in args if isinstance(a, list | tuple)), ()))
            dtype = options.get("dtype") or torch.get_default_dtype()
            if str(options.get("device", "cpu")) != "meta":
                self.used += math.prod(int(n) for n in size) * dtype.itemsize
            if self.used > self.limit:
                raise AdapterCorruptError(
                    f"{self.where}: its settings ask for {self.used / 1e6:,.0f} MB where its tensors need no more than "
                    f"{self.limit / 1e6:,.0f} MB; save the adapter again or fetch it anew"
                )
        return func(*args, **options)
