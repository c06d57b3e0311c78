"""How much of a device's memory tensors can have. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

CARDS: Sequence[int] = (6, 8, 12, 16, 24, 40, 80)
"""Sizes of common cards, in GiB."""
CONTEXT = 512 << 20
"""Bytes that CUDA and its libraries take for themselves on a card before the first tensor."""
ROUNDING = 0.05
"""Share of what tensors take that is lost to blocks that are larger than what is asked for."""
GIB = 1 << 30


def room_in(memory: int, *, on_card: bool) -> int:
    """The bytes that tensors can have; of the memory of a machine, where nothing else is counted, all."""
    return max(0, int((memory - CONTEXT) / (1 + ROUNDING))) if on_card else memory


def memory_for(tensors: int, *, on_card: bool) -> int:
    """The memory it takes to have room for so many bytes of tensors."""
    return int(tensors * (1 + ROUNDING)) + CONTEXT if on_card else tensors


def in_gib(size: float) -> str:
    """A number of bytes in the unit of cards."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"
