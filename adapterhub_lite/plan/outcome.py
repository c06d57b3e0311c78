"""What a plan says: of each strategy what a step takes, what is chosen for a size of memory, and how long rows may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapterhub_lite.plan.count import Count
from adapterhub_lite.plan.room import in_gib, memory_for, room_in
from adapterhub_lite.plan.search import Way


def no_room(memory: int, least: Count, step: str, quantization: str, *, on_card: bool) -> str:
    """That a size of memory is too small, and the smallest that works, in a line.

    Args:
        memory: Bytes that were asked for.
        least: What the smallest step takes.
        step: That step in words.
        quantization: Of the weights.
        on_card: Whether CUDA takes its share too.
    """
    needed = memory_for(least.peak, on_card=on_card)
    room = room_in(memory, on_card=on_card)
    share = min(1.0, room / least.peak)
    other = "" if quantization == "nf4" else "--quantize nf4, "
    return (
        f"--memory {in_gib(memory)} is too small: the weights of the base take {in_gib(least.weights)}, and {step} "
        f"{in_gib(least.peak)} with them; the smallest that works is --memory {math.ceil(needed / (1 << 20))}MiB; "
        f"or use {other}a shorter --max-length, or a base of at most {share:.0%} of this one's size"
    )


@dataclass(frozen=True)
class StrategyPlan:
    """One strategy on the base and rows of a plan."""

    strategy: str
    trainable: int
    """Numbers that train."""
    whole: Count
    """A step as it is without a plan: the batch at once, nothing computed again."""
    way: Way
    """What is chosen for the memory; without one, as above. Where nothing fits, the way that takes least."""
    chosen: Count
    """A step in that way."""
    fits: bool
    """Whether that stays below the memory that was asked for."""
    longest: Mapping[int, int | None]
    """By size of card in GiB the longest row that fits, one at a time; None where none does. Empty without tokens."""
    fitting: Mapping[int, Way | None]
    """By size of card the way to train on the rows of the plan."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "peak_bytes": self.whole.peak,
            "parts": asdict(self.whole),
            "trainable": self.trainable,
            "chosen": {
                **self.way.options(),
                "peak_bytes": self.chosen.peak,
                "parts": asdict(self.chosen),
                "fits": self.fits,
            },
            "fits_in": {f"{size}GiB": way.options() if way else None for size, way in self.fitting.items()},
            "longest_row": {f"{size}GiB": length for size, length in self.longest.items()},
        }


@dataclass(frozen=True)
class Plan:
    """The memory that training takes."""

    base: str
    task: str
    rows: str
    """Which rows it was counted for, in words."""
    length: int
    batch_size: int
    quantization: str
    dtype: str
    device: str
    memory: int | None
    """Bytes to stay below."""
    strategies: Mapping[str, StrategyPlan]
    refused: Mapping[str, str]
    """Strategies that do not go with the base, and why."""

    def __getitem__(self, strategy: str) -> StrategyPlan:
        return self.strategies[strategy]

    def why_not(self) -> str:
        """Why nothing fits, and what would."""
        strategy, own = min(self.strategies.items(), key=lambda item: item[1].chosen.peak)
        return no_room(
            self.memory or 0, own.chosen, f"one row of {self.length} tokens with {strategy}", self.quantization,
            on_card=self.device != "cpu",
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """As JSON."""
        about = {
            name: getattr(self, name)
            for name in ("base", "task", "rows", "length", "batch_size", "quantization", "dtype", "device")
        }
        strategies = {name: plan.record() for name, plan in self.strategies.items()}
        return {**about, "memory_bytes": self.memory, "strategies": strategies, "refused": dict(self.refused)}
