"""Long tables: a row a time step, where rows with the same id are one series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapterhub_lite.api import DataError, Table, counted, is_missing
from adapterhub_series.data.collected import Array, Collected, Reading, Steps
from adapterhub_series.data.names import join_names
from adapterhub_series.data.numbers import column_numbers
from adapterhub_series.data.times import column_times, spacing_note, uneven


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a long table, put in order."""

    order: Array
    """(rows,) rows of the table: series after series in the order of their first appearance, each in order of time."""
    bounds: Array
    """(series + 1,) where each series begins in `order`, and the end of the last."""
    notes: tuple[str, ...]


def read_long(table: Table, used: dict[str, str], channels: Sequence[str], answer: str, how: Reading) -> Collected:
    """Put the rows of each series together, in order of time.

    `answer` is the role of the label or target. A whole series has one, on all of its rows or on some; a window will have
    that of its last row. Raises DataError for what cannot be used, with its row.
    """
    rows = in_order(table, used)
    values = np.empty((len(table), len(channels)), dtype=np.float32)  # (rows, channels)
    for position, name in enumerate(channels):
        values[:, position] = column_numbers(table, name)[rows.order]
    whole = [values[a:b] for a, b in zip(rows.bounds[:-1].tolist(), rows.bounds[1:].tolist(), strict=True)]
    used = {**used, "channels": join_names(channels)}
    notes = (*table.notes, *rows.notes)
    if how.windows is None:
        chosen, more, usable = _one_row_each(table, rows, used.get(answer), how.required)
        if not usable:
            used.pop(answer)
        kept = _without(table, [*channels, *([used["time"]] if "time" in used else [])])
        return Collected(whole, tuple(channels), kept.take(chosen), used, notes=(*notes, *more))
    answered = None
    if answer in used and how.required:
        answered = np.array([not _absent(value) for value in table.column(used[answer])], dtype=bool)[rows.order]
        absent = int(np.count_nonzero(~answered))
        if absent == len(answered):
            raise DataError(f"{table.source}, column {used[answer]!r}: every {answer} is missing; fill them in")
        if absent:
            row = counted(absent, "row")
            notes = (*notes, f"column {used[answer]!r}: no window ends at the {row} where it is missing")
    kept = _without(table, channels)
    firsts = kept.take(rows.order[rows.bounds[:-1]].tolist())
    steps = Steps(kept, rows.order, rows.bounds, answered)
    return Collected(whole, tuple(channels), firsts, used, notes=notes, steps=steps)


def in_order(table: Table, used: dict[str, str]) -> Rows:
    """Sort the rows by series and time.

    Raises DataError where an id or a time is missing, and where a series has a time twice.
    """
    notes: list[str] = []
    codes = _codes(table, used["series"]) if "series" in used else np.zeros(len(table), dtype=np.int64)
    gathered = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[gathered], np.arange(int(codes.max()) + 2))
    inside = np.diff(codes[gathered]) == 0  # (rows - 1,) whether a row and the next are of one series
    if "time" not in used:
        apart = int(np.count_nonzero(np.diff(codes))) - (len(bounds) - 2)
        if apart:
            notes.append(
                f"column {used['series']!r}: some series go on after rows of another ({apart} times); their rows are "
                "joined in the order of the file, so make sure that no id stands for two series"
            )
        return Rows(gathered, bounds, tuple(notes))
    times = column_times(table, used["time"])
    unsorted = np.flatnonzero(inside & (np.diff(times[gathered]) < 0))
    if len(unsorted):
        count = len(np.unique(codes[gathered[unsorted]]))
        notes.append(f"column {used['time']!r}: rows of {counted(count, 'series', 'series')} sorted by time")
    order = np.lexsort((times, codes))
    steps = np.diff(times[order])
    repeated = np.flatnonzero(inside & (steps == 0))
    if len(repeated):
        _refuse_repeated(table, used, order, repeated)
    irregular, shortest, longest = 0, np.inf, 0.0
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        series_steps = steps[start : stop - 1]
        if uneven(series_steps):
            irregular += 1
            shortest, longest = min(shortest, float(series_steps.min())), max(longest, float(series_steps.max()))
    return Rows(order, bounds, (*notes, *spacing_note(irregular, shortest, longest)))


def _refuse_repeated(table: Table, used: dict[str, str], order: Array, repeated: Array) -> None:
    first, second = sorted(order[repeated[0] : repeated[0] + 2].tolist())
    name = used["time"]
    of = f" of series {_value(table, used['series'], first)!r}" if "series" in used else ""
    other = table.where(first).removeprefix(f"{table.source}, ")
    more = f" ({counted(len(repeated), 'such time')} in all)" if len(repeated) > 1 else ""
    raise DataError(
        f"{table.where(second, name)}: time {_value(table, name, second)!r}{of} is also that of {other}{more}; "
        "remove one, or name the id of each series with --column series=NAME"
    )


def _codes(table: Table, name: str) -> Array:
    """The number of each row's series, in the order of first appearance."""
    column = table.arrow.column(name)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    try:
        encoded = column.combine_chunks().dictionary_encode()
    except pa.ArrowException as error:
        raise DataError(
            f"{table.source}, column {name!r}: holds {column.type}, not one id a row; name another column with "
            "--column series=NAME"
        ) from error
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    absent = np.flatnonzero(np.asarray(encoded.indices.is_null()))
    if len(absent):
        raise DataError(f"{table.where(int(absent[0]), name)}: the id of the series is missing; fill it in")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _absent(value: object) -> bool:
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("", "nan", "?", "na", "null"))


def _one_row_each(
    table: Table, rows: Rows, answer: str | None, required: bool
) -> tuple[list[int], tuple[str, ...], bool]:
    """Choose one row for each series: its first row with a label or target, or its first row where there is none.

    Returns the rows, notes, and whether labels or targets can be used. Where a series has two different ones, that is
    False if none is required, and otherwise DataError is raised.
    """
    starts = rows.order[rows.bounds[:-1]].tolist()
    if answer is None:
        return starts, (), True
    values = table.column(answer)
    chosen: list[int] = []
    partial = 0
    for start, stop in zip(rows.bounds[:-1].tolist(), rows.bounds[1:].tolist(), strict=True):
        series_rows = rows.order[start:stop].tolist()
        there = [row for row in series_rows if not _absent(values[row])]
        first = there[0] if there else series_rows[0]
        other = next((row for row in there if values[row] != values[first]), None)
        if other is not None:
            at = table.where(first).removeprefix(f"{table.source}, ")
            differ = (
                f"{table.where(other, answer)}: is {values[other]!r}, and {values[first]!r} in {at} of the same series"
            )
            if not required:
                return starts, (f"column {answer!r} is not used: {differ}",), False
            raise DataError(
                f"{differ}; give a series one value, or cut windows that end at each row with --window LENGTH"
            )
        partial += 0 < len(there) < len(series_rows)
        chosen.append(first)
    notes = (f"column {answer!r}: {counted(partial, 'series', 'series')} have it on some rows only",) if partial else ()
    return chosen, notes, True


def _without(table: Table, names: Sequence[str]) -> Table:
    """The table without the columns named; where no column is left, one that numbers the rows."""
    kept = [name for name in table.columns if name not in names]
    if kept:
        return replace(table, arrow=table.arrow.select(kept))
    return replace(table, arrow=pa.table({"row": pa.array(range(1, len(table) + 1))}))


def _value(table: Table, name: str, row: int) -> object:
    return table.values(name, row, row + 1)[0]
