"""Rows to choose on: the training rows dealt into parts, of which each is held out in its turn."""

from __future__ import annotations

from dataclasses import replace

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.splits import split
from adapterhub_lite.errors import DataError

PARTS = 4
FEW = 300
"""With fewer rows every part is held out in its turn, so that all of them are there to choose on; with more the first one."""
FEWEST = 8
"""Two rows a part. With fewer the difference between two models is chance."""

Turn = tuple[Dataset, Dataset]
"""Rows to learn from, and rows to score on."""


def turns(data: Dataset, seed: int) -> list[Turn]:
    """Deal rows into parts by class and by group, as `split` does, and hold them out one after the other.

    Where there are too few groups for that there are fewer parts, and at least two.

    Raises:
        DataError: too few rows or groups to hold any out.
    """
    if len(data) < FEWEST:
        raise DataError(
            f"{data.source}: has {len(data)} rows to learn from, and choosing between strategies holds some of them out: it "
            f"takes {FEWEST}, and says something from about 50 on; give more rows, or train one strategy by its name"
        )
    rest = replace(data, inputs=tuple(range(len(data))), table=None)
    parts: list[object] = []
    for left in range(PARTS, 1, -1):
        try:
            rest, held = split(rest, 1 / left, seed=seed)
        except DataError as error:
            if not parts:
                raise DataError(f"{error}; or train one strategy by its name, without choosing") from None
            break
        parts.append(held.inputs)
    parts.append(rest.inputs)
    return [_turn(data, part) for part in (parts if len(data) < FEW else parts[:1])]


def _turn(data: Dataset, part: object) -> Turn:
    assert isinstance(part, tuple)
    held = set(part)
    return data.select([row for row in range(len(data)) if row not in held]), data.select(sorted(held))
