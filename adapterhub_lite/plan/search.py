"""How much of a batch is computed at once, and what is computed again, so that a step stays below a size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.data.batches import longest_first
from adapterhub_lite.plan.count import Count, count_run
from adapterhub_lite.plan.imagined import CardAttention, Imagined
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategyConfig
from adapterhub_lite.tasks.task import Example, Task
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.features import IMAGES_AT_ONCE, TOKENS_AT_ONCE

IGNORED = -100
"""The label of tokens that are not learnt, as everyone has it."""
ENOUGH_TOKENS = 1024
"""Tokens at once from which a device is busy: until there, fewer rows are as slow as computing activations again."""


@dataclass(frozen=True, order=True)
class Way:
    """How a batch is computed."""

    activation_checkpointing: bool
    activation_offload: bool
    micro_batch_size: int

    def options(self) -> dict[str, Any]:
        """As options of training."""
        return {
            "activation_checkpointing": self.activation_checkpointing,
            "activation_offload": self.activation_offload,
            "micro_batch_size": self.micro_batch_size,
        }


def in_words(way: Way, batch: int) -> str:
    """How a batch is computed."""
    at_once = "all rows at once" if way.micro_batch_size >= batch else f"{way.micro_batch_size} of {batch} rows at once"
    more = ", activations computed again" * way.activation_checkpointing + ", moved to the CPU" * way.activation_offload
    return at_once + more


@dataclass
class Search:
    """Counts the steps of one strategy on one base, each way once.

    Args:
        base: An imagined one; see `plan.bases`.
        task: Settled on it.
        provided: The strategy.
        settings: Its options.
        run: How it trains, but for the way.
        on_card: Whether it trains on a card, from whose memory activations can wait in the CPU's.
        longest: From a number to so many of the longest examples.
    """

    base: Base
    task: Task
    provided: ProvidedStrategy
    settings: StrategyConfig
    run: TrainConfig
    on_card: bool
    longest: Callable[[int], Sequence[Example]]
    counted: dict[Way, Count] = field(default_factory=dict)
    trainable: int = 0
    """Numbers that train, once anything was counted."""
    _before: Imagined | None = None

    def count(self, way: Way) -> Count:
        """What a step takes; parts of a batch after the first find the gradients of those before."""
        if way not in self.counted:
            examples = self.longest(min(self.run.examples_a_step, 2 * way.micro_batch_size))
            if isinstance(self.provided.spec.make(), Solver):  # whose features are encoded so many at once
                length = examples[0].length
                examples = self.longest(max(1, TOKENS_AT_ONCE // length) if length > 1 else IMAGES_AT_ONCE)
            self.counted[way] = self.count_of(examples, way)
        return self.counted[way]

    def count_of(self, examples: Sequence[Example], way: Way) -> Count:
        """What a step takes on certain examples."""
        self._before = Imagined(self._before)
        run = self.run.model_copy(update={"batch_size": len(examples), **way.options()})
        with CardAttention() if self.on_card else nullcontext():
            count, self.trainable = count_run(
                self._before, self.base, self.task, self.provided, self.settings, examples, run, on_card=self.on_card
            )
        return count

    @property
    def modes(self) -> list[tuple[bool, bool]]:
        """Checkpointing and offload: what may be asked for, the fastest first; what the user asked for stays."""
        if isinstance(self.provided.spec.make(), Solver):
            return [(False, False)]
        able = bool(getattr(self.base.model, "supports_gradient_checkpointing", False))
        given = self.run.activation_checkpointing, self.run.activation_offload
        all_modes = [(False, False)] + [(True, False)] * able + [(True, True)] * (able and self.on_card)
        return [given, *(mode for mode in all_modes if mode != given and mode[0] >= given[0] and mode[1] >= given[1])]

    def choose(self, room: int) -> tuple[Way, Count] | None:
        """The fastest way whose count is at most `room` bytes; None where there is none.

        Activations are computed again where too few rows would fit otherwise to keep the device busy.
        """
        batch = self.run.examples_at_once
        best: tuple[Way, Count] | None = None
        for mode in self.modes:
            size = self._most(mode, batch, room)
            if size == 0:
                continue
            way = Way(*mode, size)
            if best is None or size > best[0].micro_batch_size:
                best = way, self.count(way)
            tokens = sum(example.length for example in self.longest(size))
            if size == batch or (tokens >= ENOUGH_TOKENS and self.task.modality == "text"):
                break
        return best

    def least(self) -> tuple[Way, Count]:
        """The way of the smallest step."""
        ways = [Way(*mode, 1) for mode in self.modes]
        return min(((way, self.count(way)) for way in ways), key=lambda pair: pair[1].peak)

    def _most(self, mode: tuple[bool, bool], batch: int, room: int) -> int:
        """The most rows at once that fit, in steps that grow with the batch as the count does: along a straight line."""
        if self.count(Way(*mode, batch)).peak <= room:
            return batch
        one = self.count(Way(*mode, 1)).peak
        if one > room or batch == 1:
            return 0
        low, high, at_low, at_high = 1, batch, one, self.count(Way(*mode, batch)).peak
        for _ in range(3):
            guess = low + int((room - at_low) * (high - low) / max(1, at_high - at_low))
            guess = min(max(guess, low), high - 1)
            if guess == low:
                break
            peak = self.count(Way(*mode, guess)).peak
            if peak <= room:
                low, at_low = guess, peak
            else:
                high, at_high = guess, peak
        return low


def stretched(example: Example, length: int) -> Example:
    """An example like another one with so many tokens; one that has none stays as it is."""
    if example.length == length or not isinstance(example.inputs, list):
        return example
    times = -(-length // example.length)

    def longer(part: Any) -> Any:
        of_tokens = isinstance(part, list) and len(part) == example.length
        return (part * times)[:length] if of_tokens else part

    inputs, target = longer(example.inputs), longer(example.target)
    if target is example.target:
        return replace(example, inputs=inputs, length=length)
    # Of a language model the first token is learnt of nothing.
    not_counted = sum(label != IGNORED for label in example.target) - example.rows
    rows = max(1, sum(label != IGNORED for label in target) - not_counted)
    return replace(example, inputs=inputs, target=target, length=length, rows=rows, weight=float(rows))


def all_learnt(example: Example) -> Example:
    """An example of tokens in which each of them counts in the loss, which takes most memory; another one stays as it is."""
    target = example.target
    if not isinstance(target, list) or len(target) != example.length:
        return example
    label = next((label for label in target if label != IGNORED), IGNORED)
    filled = [target[0], *(label if own == IGNORED else own for own in target[1:])]
    rows = example.rows + sum(own == IGNORED for own in target[1:])
    return replace(example, target=filled, rows=rows, weight=float(rows))


def longest_of(examples: Sequence[Example]) -> Callable[[int], Sequence[Example]]:
    """A function that gives so many of the longest examples; those there are, as often as it takes."""
    order = longest_first([example.length for example in examples])
    return lambda count: [examples[order[row % len(order)]] for row in range(count)]
