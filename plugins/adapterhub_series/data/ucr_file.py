"""Rows of numbers without a header, as in the UCR archive: the class or target first, then the values."""

from __future__ import annotations

import re
from array import array
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import DataError, Table, counted, number_of, place
from adapterhub_series.data.collected import Array, Collected, numbered_channels
from adapterhub_series.data.numbers import fields_to_numbers
from adapterhub_series.data.text_lines import number_error, numbered_lines
from adapterhub_series.data.wide import shortened_at_end

SEPARATORS = {".tsv": "\t", ".csv": ","}


def has_no_header(path: Path, source: str) -> bool:
    """Whether the first line of a .tsv or .csv holds numbers only, and not 0, 1, 2, ..., which pandas gives as names."""
    separator = SEPARATORS.get(path.suffix.lower())
    if separator is None:
        return False
    _, first = next(numbered_lines(path, source), (0, ""))
    fields = [field.strip() for field in first.split(separator)]
    if len(fields) < 3 or any(number_of(field)[1] is not None for field in fields):
        return False
    return not all(re.fullmatch(r"\d{1,9}", field) for field in fields) or (
        any(int(after) != int(before) + 1 for before, after in pairwise(fields))
    )


def read_ucr(path: Path, source: str, sha256: str, answer: str) -> Collected:
    """Read series of one channel, a line each; NaN at the end of a line makes its series shorter.

    Raises DataError with row, line and step.
    """
    separator = SEPARATORS[path.suffix.lower()]
    numbers = array("q")
    rows: list[Array] = []
    answers: list[str | None] = []
    for line, text in numbered_lines(path, source):
        first, *fields = text.split(separator)
        if rows and len(fields) != len(rows[0]):
            raise DataError(
                f"{place(source, len(rows), line)}: has {counted(len(fields), 'value')} after its first where row 1 has "
                f"{len(rows[0])}; is the line whole? (write NaN where a series has ended)"
            )
        try:
            rows.append(fields_to_numbers(fields))
        except ValueError as error:
            raise number_error(source, len(rows), line, 0, error, 1) from error
        answers.append(_answer(first.strip(), answer))
        numbers.append(line)
    series, notes = shortened_at_end(np.stack(rows).astype(np.float32)[:, :, None])
    columns = {"series": pa.array(range(1, len(rows) + 1)), answer: pa.array(answers, pa.utf8())}
    table = Table(source, pa.table(columns), sha256, numbers)
    said = f"{source}: has no header; the first value of each line is read as its {answer}, the others as its series"
    return Collected(series, numbered_channels(1), table, {answer: answer}, notes=(said, *notes), number="series")


def _answer(text: str, answer: str) -> str | None:
    """The first value of a line; older files write class 1 as 1.0000000e+00."""
    number, reason = number_of(text)
    if reason is None and np.isnan(number):
        return None
    if answer == "label" and reason is None and number.is_integer():
        return str(int(number))
    return text
