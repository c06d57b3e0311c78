"""The order of the batches: shuffled by seed and epoch, of similar lengths so that little is padding. No torch here."""

from __future__ import annotations

import random
from collections.abc import Sequence

POOL = 32  # batches sorted together: enough to make lengths alike, few enough to keep the order random


def epoch_batches(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Split one epoch into batches of indices.

    The examples are shuffled, cut into pools of `POOL` batches, sorted by length inside a pool, cut into batches, and the
    batches of the epoch are shuffled again. Every index occurs once; the last batch may be smaller.

    Args:
        lengths: Length of each example.
        batch_size: Examples a batch.
        seed: Of the run.
        epoch: Counted from 0; each has an order of its own.
    """
    generator = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = sorted(order[start : start + POOL * batch_size], key=lambda i: lengths[i])
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    generator.shuffle(batches)
    return batches


def length_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches for evaluation: sorted by length, longest first, so that running out of memory happens at once."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
