"""Series with one table row each, the common result of all readers of series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapterhub_lite.api import Table
from adapterhub_series.data.windows import Windows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reading:
    """What a reader of series is asked for."""

    answer: str
    """The role of what is learnt: "label" or "target"."""
    required: bool
    """Whether there must be labels or targets."""
    windows: Windows | None = None


@dataclass(frozen=True, eq=False)
class Steps:
    """The rows of a long table behind whole series, so that a window can take the row it ends at."""

    table: Table
    """A row a time step, without the channels."""
    order: Array
    """(rows,) its rows, series after series, each in order of time."""
    bounds: Array
    """(series + 1,) where each series begins in `order`, and the end of the last."""
    answered: Array | None
    """(rows,) in the same order as `order`: whether a row has a label or target; None where none is asked for."""


@dataclass(frozen=True, eq=False)
class Collected:
    """Series, and the table with one row for each of them: its label or target, and what else belongs to it."""

    values: Sequence[Array]
    """Each (time, channels) float32; NaN where a value is missing."""
    channels: tuple[str, ...]
    table: Table
    used: dict[str, str]
    """The column of each role; "channels" names several, see `join_names`."""
    declared: tuple[str, ...] | None = None
    """Classes in the order the file gives them."""
    notes: tuple[str, ...] = ()
    number: str | None = None
    """The column that numbers the series, where the reader made one."""
    steps: Steps | None = None


def numbered_channels(count: int) -> tuple[str, ...]:
    """Names for channels that a file does not name."""
    return tuple(f"channel_{number}" for number in range(1, count + 1))
