"""The order of batches, and how a batch is cut into parts with little padding. No torch here."""

from __future__ import annotations

import random
from collections.abc import Sequence

PART = 64
"""Cost of one more pass through the model, in padded tokens: a CPU repacks the weights for every pass."""
TRAINED = 192
"""Further cost of a pass where all weights train: gradients are made, cast and added anew (benchmarks/RESULTS.md)."""


def epoch_batches(count: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Split one epoch into batches of indices, shuffled.

    Batches are not of similar lengths: that saves padding, but a step that sees only short or only long examples is a
    worse step (benchmarks/RESULTS.md). The padding is saved by `similar_parts`, inside the batch.

    Args:
        count: Examples.
        batch_size: Examples a batch; the last one may have fewer.
        seed: Of the run.
        epoch: Counted from 0; each has an order of its own.
    """
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def similar_parts(lengths: Sequence[int], most: int, trained: float = 0.0) -> list[list[int]]:
    """Cut a batch into parts of similar lengths, the longest first, each to be padded and run by itself.

    A part costs the number of its examples times the length of the longest, plus `PART`, plus `TRAINED` times the share
    of weights that train. Of all ways to cut the sorted examples the cheapest is returned (by dynamic programming, at
    most `most` steps an example).

    Args:
        lengths: Length of each example.
        most: Examples a part may have.
        trained: Share of the model's weights that train, 0 to 1.

    Returns:
        The positions in each part.
    """
    order = longest_first(lengths)
    another = PART + TRAINED * trained
    cost, start = [0.0], [0]  # of the first n examples: the least they cost, and where their last part begins
    for n in range(1, len(order) + 1):
        least, begin = min(
            (cost[i] + (n - i) * lengths[order[i]] + another, i) for i in range(max(0, n - most), n)
        )  # fmt: skip
        cost.append(least)
        start.append(begin)
    parts, n = [], len(order)
    while n:
        parts.append(order[start[n] : n])
        n = start[n]
    return parts[::-1]


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Positions sorted by length, longest first: an evaluation that runs out of memory does so at once."""
    return sorted(range(len(lengths)), key=lambda position: -lengths[position])
