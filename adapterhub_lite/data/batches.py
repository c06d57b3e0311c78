"""The order of batches, and how a batch is cut into parts. No torch here."""

from __future__ import annotations

import random
from collections.abc import Sequence

ROW = 2048
"""Tokens that are run at once: more of them take more memory and no less time each."""
SIMILAR = 256
"""Tokens that are run at once where texts are padded: more of them have more padding, and fewer take more passes."""


def epoch_batches(count: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Split one epoch into batches of indices, shuffled.

    Batches are not of similar lengths: that saves padding, but a step that sees only short or only long examples is a
    worse step (benchmarks/RESULTS.md). Padding is saved inside the batch, by running it without or in parts of similar lengths.

    Args:
        count: Examples.
        batch_size: Examples a batch; the last one may have fewer.
        seed: Of the run.
        epoch: Counted from 0; each has an order of its own.
    """
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def parts_of(lengths: Sequence[int], most: int, tokens: int) -> list[list[int]]:
    """Cut a batch into parts of at most `most` examples, and of about so many tokens, each to be run by itself.

    Returns:
        The positions in each part.
    """
    total = sum(lengths)
    wanted = max(1, round(total / tokens))
    parts: list[list[int]] = []
    done = 0
    for position, length in enumerate(lengths):
        # A new part begins where a share of all tokens is done.
        if not parts or len(parts[-1]) == most or done * wanted >= total * len(parts):
            parts.append([])
        parts[-1].append(position)
        done += length
    return parts


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Positions sorted by length, longest first: an evaluation that runs out of memory does so at once."""
    return sorted(range(len(lengths)), key=lambda position: -lengths[position])
