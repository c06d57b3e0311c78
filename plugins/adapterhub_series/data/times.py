"""Time stamps as numbers, and a note where they are not evenly spaced."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import DataError, Table, counted
from adapterhub_series.data.collected import Array
from adapterhub_series.data.numbers import column_numbers, looks_numeric

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVEN = 1e-6  # relative: steps of 0.1 s written in decimals differ in their last bits


def column_times(table: Table, name: str) -> Array:
    """A time column as numbers (rows,): numbers as written, dates in microseconds (or nanoseconds, as the column).

    Raises DataError at the first row whose time is missing or is neither a number nor an ISO 8601 date and time.
    """
    column = table.arrow.column(name)
    kind = column.type
    times: Array
    if looks_numeric(table, name):
        times = column_numbers(table, name)
        absent = np.isnan(times)
    else:
        try:
            times = _stamps(column, kind).cast(pa.int64(), safe=False).fill_null(0).to_numpy()
        except pa.ArrowException as error:
            row = _first_bad(table, name)
            raise DataError(
                f"{table.where(row, name)}: time {table.values(name, row, row + 1)[0]!r} is neither a number nor an "
                "ISO 8601 date and time (2024-05-01 13:00:00); convert the column, or name another with --column time=NAME"
            ) from error
        absent = np.asarray(column.is_null().to_numpy(), dtype=bool)
    if absent.any():
        row = int(np.flatnonzero(absent)[0])
        raise DataError(f"{table.where(row, name)}: time is missing; fill it in or remove the row")
    return times


def text_times(fields: Sequence[str]) -> Array:
    """Time stamps written as text, all numbers or all dates, as numbers (n,).

    Raises ValueError where a time stamp is neither a number nor a date.
    """
    try:
        times = np.array(fields, dtype=np.float64)
        if not np.isfinite(times).all():
            raise ValueError("a time stamp is not finite")
        return times
    except ValueError:
        return np.array([_microseconds(field) for field in fields], dtype=np.int64)


def _microseconds(text: str) -> int:
    stamp = datetime.fromisoformat(text.strip())
    return ((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def spacing_note(irregular: int, shortest: float, longest: float) -> tuple[str, ...]:
    """A note on series whose time steps are uneven; empty where there are none."""
    if not irregular:
        return ()
    return (
        f"time steps are uneven in {counted(irregular, 'series', 'series')} (between {shortest:g} and {longest:g}); "
        "values are taken in order, as if evenly spaced",
    )


def uneven(steps: Array) -> bool:
    """Whether differences of time stamps, all positive, are of more than one length."""
    return bool(len(steps) > 1 and steps.max() - steps.min() > EVEN * steps.max())


def _stamps(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_time(kind):
        return column
    unit = "ns" if pa.types.is_timestamp(kind) and kind.unit == "ns" else "us"
    try:
        return column.cast(pa.timestamp(unit), safe=False)
    except pa.ArrowInvalid:  # text that names its zone: 2024-05-01T13:00:00Z
        return column.cast(pa.timestamp(unit, "UTC"), safe=False)


def _first_bad(table: Table, name: str) -> int:
    for row, value in enumerate(table.column(name)):
        if value is not None:
            try:
                one = pa.chunked_array([pa.array([value])])
                _stamps(one, one.type)
            except pa.ArrowException:
                return row
    return 0
