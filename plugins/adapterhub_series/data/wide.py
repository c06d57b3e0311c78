"""Wide tables: a row a series, its values in numbered columns or in columns of lists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import JSON_TYPE, DataError, Table, counted, number_of
from adapterhub_series.data.collected import Array, Collected
from adapterhub_series.data.names import join_names
from adapterhub_series.data.numbers import LARGEST, column_numbers, looks_numeric

NUMBERED = re.compile(r"(?P<family>.*?)[ _.\-]*(?P<number>\d+)\s*", re.DOTALL)
UNNAMED = "value"  # the family of columns that are named by numbers alone
CHUNK = 1024  # rows of lists held as Python objects at a time


def families(table: Table, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Numbered columns of numbers, in order, by what stands before the number: t0, t1, t2 are the family "t"."""
    by_family: dict[str, dict[int, str]] = {}
    for name in names:
        match = NUMBERED.fullmatch(name)
        if match is not None:
            by_family.setdefault(match["family"].strip() or UNNAMED, {}).setdefault(int(match["number"]), name)
    return {
        family: tuple(columns[number] for number in sorted(columns))
        for family, columns in by_family.items()
        if len(columns) > 1 and looks_numeric(table, next(iter(columns.values())))
    }


def list_columns(table: Table, names: Sequence[str]) -> list[str]:
    """The columns whose values are lists, or in a CSV file lists written as JSON."""
    return [name for name in names if _holds_lists(table, name)]


def read_numbered(table: Table, used: dict[str, str], channels: Mapping[str, Sequence[str]]) -> Collected:
    """Each row's numbered columns as one series, a family a channel; missing values at the end make it shorter."""
    lengths = {family: len(columns) for family, columns in channels.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{family!r} {length}" for family, length in lengths.items())
        raise DataError(
            f"{table.source}: families of numbered columns have different lengths ({shown}); "
            "name those that are channels with --column channels=NAME,NAME, or the id of each series with --column series=NAME"
        )
    for family, columns in channels.items():
        _check_numbers(table, family, columns)
    values = np.empty((len(table), next(iter(lengths.values())), len(channels)), dtype=np.float32)
    for channel, columns in enumerate(channels.values()):
        for step, name in enumerate(columns):
            values[:, step, channel] = column_numbers(table, name)
    series, notes = shortened_at_end(values)
    return Collected(
        series, tuple(channels), table, {**used, "channels": join_names(tuple(channels))}, notes=table.notes + notes
    )


def read_lists(table: Table, used: dict[str, str], channels: Sequence[str]) -> Collected:
    """Each row's lists as one series, a column a channel; or one column of lists of steps, each a list of channels."""
    series: list[Array] = []
    names = tuple(channels)
    for start in range(0, len(table), CHUNK):
        stop = min(start + CHUNK, len(table))
        columns = [table.values(name, start, stop) for name in channels]
        for offset, values in enumerate(zip(*columns, strict=True)):
            parts = [_parsed(value, table, start + offset, name) for value, name in zip(values, channels, strict=True)]
            series.append(_joined(parts, table, start + offset, channels))
    widths = {values.shape[1] for values in series}
    if len(channels) == 1 and widths != {1}:
        row = next(row for row, values in enumerate(series) if values.shape[1] != series[0].shape[1]) if len(
            widths
        ) > 1 else None  # fmt: skip
        if row is not None:
            raise DataError(
                f"{table.where(row, channels[0])}: has {counted(series[row].shape[1], 'channel')} where row 1 has "
                f"{series[0].shape[1]}; give every series the same channels"
            )
        names = tuple(f"{channels[0]}_{number}" for number in range(1, series[0].shape[1] + 1))
    return Collected(series, names, table, {**used, "channels": join_names(channels)}, notes=table.notes)


def shortened_at_end(values: Array) -> tuple[list[Array], tuple[str, ...]]:
    """Cut missing values off the end of series; `values` are (series, time, channels).

    Returns the series, each (time, channels), and a note where any was shortened.
    """
    there: Array = np.asarray(~np.isnan(values).all(axis=2))  # (series, time)
    lengths = np.where(there.any(axis=1), values.shape[1] - there[:, ::-1].argmax(axis=1), values.shape[1])
    shorter = int(np.count_nonzero(lengths < values.shape[1]))
    notes: tuple[str, ...] = ()
    if shorter:
        what = counted(shorter, "series end in missing values and is", "series end in missing values and are")
        notes = (f"{what} taken as shorter than {values.shape[1]} steps",)
    return [whole[:length] for whole, length in zip(values, lengths.tolist(), strict=True)], notes


def _check_numbers(table: Table, family: str, columns: Sequence[str]) -> None:
    numbers = [int(match["number"]) for match in map(NUMBERED.fullmatch, columns) if match is not None]
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise DataError(
                f"{table.source}: the numbered columns of {family!r} go from {before} to {after}; add what lies "
                "between, or rename columns that are no time steps"
            )


def _holds_lists(table: Table, name: str) -> bool:
    kind = table.arrow.schema.field(name).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return True
    if kind != JSON_TYPE and not pa.types.is_string(kind):
        return False
    first = next((value for value in table.values(name, 0, 100) if value is not None), None)
    return isinstance(first, list) or (isinstance(first, str) and first.lstrip().startswith("["))


def _parsed(value: Any, table: Table, row: int, name: str) -> Array:
    """One list as (time, 1), or one list of lists as (time, channels)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(
                f"{table.where(row, name)}: is not a list such as [0.1, 0.2] ({error}); is it cut short?"
            ) from error
    if not isinstance(value, list) or not value:
        raise DataError(f"{table.where(row, name)}: has no list of values; fill it in or remove the row")
    try:
        numbers = np.array(value, dtype=np.float64)  # None becomes NaN
        if numbers.ndim in (1, 2) and not (np.abs(numbers) > LARGEST).any():
            return (numbers[:, None] if numbers.ndim == 1 else numbers).astype(np.float32)
    except (ValueError, TypeError):
        pass
    if isinstance(value[0], list):
        raise DataError(f"{table.where(row, name)}: its steps are not lists of as many numbers each; correct them")
    column = np.empty((len(value), 1), dtype=np.float32)
    for step, entry in enumerate(value):
        column[step], reason = number_of(entry)
        if reason is not None:
            raise DataError(f"{table.where(row, name)}, step {step + 1}: {reason}")
    return column


def _joined(parts: Sequence[Array], table: Table, row: int, channels: Sequence[str]) -> Array:
    for part, name in zip(parts, channels, strict=True):
        if part.shape[1] != 1 and len(parts) > 1:
            raise DataError(f"{table.where(row, name)}: holds lists of lists, and is one of several channels; give one")
        if len(part) != len(parts[0]):
            raise DataError(
                f"{table.where(row, name)}: has {counted(len(part), 'step')} where {channels[0]!r} has {len(parts[0])}; "
                "give all channels of a series the same steps (null where one is missing)"
            )
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
