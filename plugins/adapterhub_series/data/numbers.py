"""Text and columns as numbers: a missing value becomes NaN, and text that is no number is an error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapterhub_lite.api import ABSENT, JSON_TYPE, DataError, Table, number_of
from adapterhub_series.data.collected import Array

LARGEST = float(np.finfo(np.float32).max)
SAMPLE = 200


def fields_to_numbers(fields: Sequence[str], *, empty_is_missing: bool = True) -> Array:
    """Text fields as float64 (n,), NaN where one is missing.

    Raises ValueError whose `args` are the position of the first bad field (from 0) and what is wrong with it.
    """
    try:
        numbers = np.array(fields, dtype=np.float64)
        if "_" not in "".join(fields) and np.isfinite(numbers).all() and np.abs(numbers).max(initial=0) <= LARGEST:
            return numbers
    except ValueError:
        pass
    numbers = np.empty(len(fields))
    for position, field in enumerate(fields):
        if not field.strip() and not empty_is_missing:
            raise ValueError(position, "value is empty; write ? where one is missing")
        value, reason = number_of(field)
        if reason is not None:
            raise ValueError(position, reason)
        numbers[position] = value
    return numbers


def column_numbers(table: Table, name: str) -> Array:
    """One column as float64 (rows,), NaN where a value is missing; DataError at the first that is not a number."""
    numbers = _at_once(table.arrow.column(name))
    if numbers is not None and not (np.abs(numbers) > LARGEST).any():
        return numbers
    numbers = np.empty(len(table))
    for row, value in enumerate(table.column(name)):
        numbers[row], reason = number_of(value)
        if reason is not None:
            raise DataError(f"{table.where(row, name)}: {reason}")
    return numbers


def looks_numeric(table: Table, name: str) -> bool:
    """Whether a column holds numbers: by its type, or for text, whether most of its first values are numbers."""
    kind = table.arrow.schema.field(name).type
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        return True
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == JSON_TYPE):
        return False
    there = numbers = 0
    for start in range(0, len(table), SAMPLE):  # a sensor may be silent for its first thousand rows
        for value in table.values(name, start, min(start + SAMPLE, len(table))):
            number, reason = number_of(value)
            there += reason is not None or not math.isnan(number)
            numbers += reason is None and not math.isnan(number)
        if there:
            break
    return 2 * numbers > there


def _at_once(column: pa.ChunkedArray) -> Array | None:
    """The whole column by Arrow, or None where a value needs a closer look."""
    kind = column.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            text = pc.utf8_trim_whitespace(column)
            absent = pc.is_in(pc.utf8_lower(text), pa.array(ABSENT, kind))
            column = pc.if_else(absent, pa.scalar(None, kind), text)
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            return None
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        return None
