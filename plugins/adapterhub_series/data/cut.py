"""Windows cut from longer series, without a copy of what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import DataError, counted
from adapterhub_series.data.collected import Array, Collected
from adapterhub_series.data.windows import Windows


@dataclass(frozen=True, eq=False)
class Cut:
    """Windows, with the series and the step that each was cut from."""

    values: list[Array]
    """Each (time, channels): views on the series they were cut from, or on a copy with its first step repeated."""
    series: Array
    """(windows,) the series each was cut from, counted from 0."""
    ends: Array
    """(windows,) the step of that series it ends at, counted from 0."""
    short: int
    """Windows that begin before their series."""


def cut(series: Sequence[Array], windows: Windows, allowed: Sequence[Array] | None = None) -> Cut:
    """Cut series, (time, channels) each.

    Args:
        series: The whole series.
        windows: Their length, their stride and what becomes of short ones.
        allowed: For each series (time,) booleans: whether a window may end at a step.
    """
    values: list[Array] = []
    owners: list[Array] = [np.zeros(0, dtype=np.int64)]
    ends: list[Array] = [np.zeros(0, dtype=np.int64)]
    short = 0
    least = {"pad": 0, "keep": 1, "drop": windows.length - 1}[windows.short]  # the first step a window may end at
    for index, whole in enumerate(series):
        series_ends = np.arange(len(whole) - 1, least - 1, -windows.stride)[::-1]
        if allowed is not None:
            series_ends = series_ends[allowed[index][series_ends]]
        if windows.last_only:
            series_ends = series_ends[-1:]
        early = int(np.count_nonzero(series_ends < windows.length - 1))
        lead = windows.length - 1 if early and windows.short == "pad" else 0
        source = np.concatenate([np.repeat(whole[:1], lead, axis=0), whole]) if lead else whole
        values += [source[max(0, end + lead + 1 - windows.length) : end + lead + 1] for end in series_ends.tolist()]
        owners.append(np.full(len(series_ends), index))
        ends.append(series_ends)
        short += early
    return Cut(values, np.concatenate(owners), np.concatenate(ends), short)


def cut_windows(collected: Collected, windows: Windows, required: bool) -> Collected:
    """The series cut into windows, one table row each, which keeps the series it comes from as its group.

    Where labels are required, windows that end at a step without a label, or that hold no value at all, are left out.
    Raises DataError where no window is left.
    """
    made = cut(collected.values, windows, _allowed(collected, windows, required))
    if not made.values:
        raise DataError(
            f"{collected.table.source}: no series is long enough for a window of {windows.length} steps; "
            "make --window shorter, or fill windows up"
        )
    notes = (*collected.notes, *_notes(windows, made, len(collected.values)))
    used = dict(collected.used)
    if collected.steps is not None:
        steps = collected.steps
        table = steps.table.take(steps.order[steps.bounds[made.series] + made.ends].tolist())
        if "series" in used:
            used.setdefault("group", used["series"])
        else:
            notes += (
                "all windows are of one series, and overlap: hold out another file, not a random part of this one",
            )  # fmt: skip
        return replace(collected, values=made.values, table=table, used=used, notes=notes, steps=None)
    table = collected.table.take(made.series.tolist())
    added = {_free("window_end", table.columns): made.ends + 1}
    if "group" not in used:
        used["group"] = used.get("series") or collected.number or _free("series", table.columns)
        if used["group"] not in table.columns:
            added[used["group"]] = made.series + 1
    arrow = table.arrow
    for name, numbers in added.items():
        arrow = arrow.append_column(name, pa.array(numbers))
    return replace(collected, values=made.values, table=replace(table, arrow=arrow), used=used, notes=notes)


def _allowed(collected: Collected, windows: Windows, required: bool) -> list[Array] | None:
    """For each series, the steps at which a window may end; None for all of them."""
    if not required:
        return None
    allowed = [_has_values(whole, windows.length) for whole in collected.values]
    if collected.steps is not None and collected.steps.answered is not None:
        bounds = collected.steps.bounds.tolist()
        for index, may_end in enumerate(allowed):
            may_end &= collected.steps.answered[bounds[index] : bounds[index + 1]]
    return allowed


def _has_values(whole: Array, length: int) -> Array:
    """(time,) whether the window that ends at a step holds any value."""
    there = np.concatenate([[0], np.cumsum(~np.isnan(whole).all(axis=1))])
    stops = np.arange(1, len(whole) + 1)
    return np.asarray(there[stops] > there[np.maximum(stops - length, 0)])


def _notes(windows: Windows, made: Cut, series: int) -> tuple[str, ...]:
    what = f"{counted(len(made.values), 'window')} of {windows.length} steps, the last ending with its series"
    if made.short and windows.short == "pad":
        what += f"; {made.short} begin before their series, whose first step is repeated in front"
    elif made.short:
        what += f"; {made.short} at the start of a series are shorter"
    elif windows.short == "drop":
        what += "; none begins before its series"
    without = series - len(np.unique(made.series))
    return (what, f"{counted(without, 'series gives', 'series give')} no window") if without else (what,)


def _free(name: str, taken: Sequence[str]) -> str:
    candidates = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)
