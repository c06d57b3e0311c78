"""The longest row that fits a card, from counts of a few lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from adapterhub_lite.plan.room import CARDS, GIB, room_in

STEP = 64
"""Lengths are told in multiples of it."""
FIRST = (256, 2048)


def longest_rows(peak: Callable[[int], int], most: int) -> dict[int, int | None]:
    """By size of card the most tokens of a row that fits; None where not even the shortest does.

    What a step takes grows with the length along a line that bends upwards alone, so that between two counts it is at most
    on the straight line through both: what is said to fit does.

    Args:
        peak: From a length to bytes.
        most: Tokens that the base takes.
    """
    counts = {length: peak(length) for length in sorted({min(first, most) for first in FIRST})}
    for size in (max(CARDS), CARDS[len(CARDS) // 2]):
        guess = _beyond(counts, room_in(size * GIB, on_card=True))
        if guess > max(FIRST):
            reached = min(guess, most) // STEP * STEP
            counts[reached] = peak(reached)
    return {size: _below(counts, room_in(size * GIB, on_card=True)) for size in CARDS}


def _beyond(counts: Mapping[int, int], room: int) -> int:
    """The length at which the line through the shortest and the longest count reaches the room."""
    (short, low), (long, high) = min(counts.items()), max(counts.items())
    if long == short or high <= low:
        return long
    return short + int((room - low) * (long - short) / (high - low))


def _below(counts: Mapping[int, int], room: int) -> int | None:
    lengths: Sequence[int] = sorted(counts)
    if counts[lengths[0]] > room:
        return None
    for short, long in pairwise(lengths):
        if counts[long] > room:
            share = (room - counts[short]) / max(1, counts[long] - counts[short])
            return max(short, int(short + share * (long - short)) // STEP * STEP)
    return lengths[-1]
