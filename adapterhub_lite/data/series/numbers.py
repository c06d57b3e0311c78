"""Text and columns into numbers, with NaN for what is missing and an error for what is no number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapterhub_lite.data.roles.columns import missing
from adapterhub_lite.data.series.collected import Array
from adapterhub_lite.data.table import JSON_TYPE, Table
from adapterhub_lite.errors import DataError

# How a missing value is written in the files people have; compared in lower case.
ABSENT = ("", "?", "na", "n/a", "nan", "null", "none")
# Python's float() also takes "1_000" and digits of other scripts, which no other reader of these files does.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
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


def number_of(value: Any) -> tuple[float, str | None]:
    """A value as a number, NaN where it is missing, and why it is none where it is neither."""
    if missing(value):
        return math.nan, None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ABSENT:
            return math.nan, None
        if NUMBER.fullmatch(text):
            number = float(text)
        elif text.lower().lstrip("+-") in ("inf", "infinity"):
            number = math.inf
        else:
            hint = "write 1.5, not 1,5" if re.fullmatch(r"[+-]?\d+,\d+", text) else "correct it, or leave it empty"
            return math.nan, f"{_short(text)} is not a number; {hint}"
    elif isinstance(value, (bool, int, float, np.number)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        kind = "a list" if isinstance(value, list) else f"a {type(value).__name__}"
        return math.nan, f"is {kind}, not a number"
    if abs(number) <= LARGEST:
        return number, None
    return math.nan, f"{_short(str(value))} is infinite or too large for a 32-bit number; correct it, or leave it empty"


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
    """Whether a column holds numbers: by its type, or, where it is text, most of the first values that are there."""
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


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:37] + "...")
