"""A number from what a column or a field of a file holds."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from adapterhub_lite.data.roles.columns import is_missing

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


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:37] + "...")
