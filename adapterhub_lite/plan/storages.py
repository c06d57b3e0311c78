"""Counting the memory of tensors that are alive, on any device and on `meta`, where they have none."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveStorages(TorchDispatchMode):
    """Counts, for the length of a `with` block, the bytes of the storages that operations make and nobody let go of yet.

    What a kernel takes inside and gives back before it ends is not seen.

    Attributes:
        kind: What storages made from now on are counted as.
        now: Live bytes by kind.
        peak: The most that was alive at once.
        at_peak: Live bytes by kind at that moment.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = ""
        self.now: Counter[str] = Counter()
        self.peak = 0
        self.at_peak: dict[str, int] = {}
        self._total = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._kinds: dict[int, str] = {}

    def add(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            self._note(tensor, kind)

    def count_as(self, tensor: Tensor, kind: str) -> None:
        """Count a tensor that is counted already as something else from now on."""
        key = tensor.untyped_storage()._cdata
        if key in self._kinds:
            size = tensor.untyped_storage().nbytes()
            self.now[self._kinds[key]] -= size
            self.now[kind] += size
            self._kinds[key] = kind

    def begin_again(self) -> None:
        """Forget the peak so far."""
        self.peak, self.at_peak = self._total, dict(self.now)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.note(result)
        return result

    def note(self, result: Any) -> None:
        """Count what an operation gave."""
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._note(value, self.kind)

    def _note(self, tensor: Tensor, kind: str) -> None:
        storage = tensor.untyped_storage()
        # A weak reference to a storage lives as long as its memory, whichever tensors look at it.
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, partial(self._gone, key, size))
        self._kinds[key] = kind
        self.now[kind] += size
        self._total += size
        if self._total > self.peak:
            self.peak, self.at_peak = self._total, dict(self.now)

    def _gone(self, key: int, size: int, _: Any) -> None:
        del self._known[key]
        self.now[self._kinds.pop(key)] -= size
        self._total -= size


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The bytes of the storages of some tensors, each counted once."""
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())
