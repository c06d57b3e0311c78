"""A column of numbers to be predicted."""

from __future__ import annotations

import math

from adapterhub_lite.data.series.numbers import number_of
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError


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
