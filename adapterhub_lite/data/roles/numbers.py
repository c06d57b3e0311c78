"""Reading numbers from columns, and the column of numbers that a regression learns."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from adapterhub_lite.data.roles.columns import is_missing
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError

# How a missing value is written in the files people have; compared in lower case.
ABSENT = ("", "?", "na", "n/a", "nan", "null", "none")
# Python's float() also takes "1_000" and digits of other scripts, which no other reader of these files does.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LARGEST = float(np.finfo(np.float32).max)


def number_of(value: Any) -> tuple[float, str | None]:
    """Read a number from what a column or a field holds.

    Returns:
        The number, NaN where it is missing or cannot be read; and why it cannot be read, None where it can.
    """
    if is_missing(value):
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
            return math.nan, f"{_quoted(text)} is not a number; {hint}"
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
    return (
        math.nan,
        f"{_quoted(str(value))} is infinite or too large for a 32-bit number; correct it, or leave it empty",
    )


def read_values(table: Table, column: str, *, required: bool) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """The numbers of a target column, and notes.

    Where they are not required (prediction), a column that cannot be used gives a note, and no numbers.

    Raises:
        DataError: a value that is missing, infinite or no number, naming row and column.
    """
    values: list[float] = []
    try:
        for row, value in enumerate(table.column(column)):
            number, reason = number_of(value)
            if reason is not None:
                reason = reason.replace("leave it empty", "remove the row")
            if isinstance(value, bool):
                reason = f"is {value}, not a number; for yes or no use a classification task"
            if reason is None and math.isnan(number):
                reason = "target is missing; fill it in or remove the row"
            if reason is not None:
                raise DataError(f"{table.where(row, column)}: {reason}")
            values.append(number)
    except DataError as error:
        if required:
            raise
        return None, (f"column {column!r} is not used as targets: {error}",)
    return tuple(values), ()


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:37] + "...")
