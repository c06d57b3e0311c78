"""Texts or pairs of texts with labels, one a row or any number of them, or with a number each."""

from __future__ import annotations

import math
from typing import Any

from adapterhub_lite.api import DataError, Dataset, Request, Table, number_of, read_choices, read_groups, read_table
from adapterhub_text.columns import choose_text_columns, read_texts
from adapterhub_text.options import CLASSIFICATION, CLASSIFICATION_ROLES, REGRESSION, REGRESSION_ROLES

# In the order tried: the names people give these columns.
LABEL_NAMES = (
    *("label", "category", "intent", "class", "target", "labels", "topic", "sentiment", "tag", "class_label"),
    *("label_text", "coarse_label", "output", "y", "tags"),
)
TARGET_NAMES = ("target", "score", "rating", "value", "similarity", "price", "stars", "label", "y")


def read_labelled(source: Any, request: Request) -> Dataset:
    """Read and check labelled texts; see `load_data`."""
    table = read_table(source)
    required = request.require_labels
    used = choose_text_columns(
        table, request.columns, CLASSIFICATION, CLASSIFICATION_ROLES, "label", LABEL_NAMES, required=required
    )
    inputs, text_notes = read_texts(table, used, request.columns)
    used, form, labels = read_choices(table, used, request)
    notes = (*table.notes, *text_notes, *labels.notes)
    return Dataset(
        CLASSIFICATION, inputs, labels.targets, labels.names, used, table.source, table.sha256, table, notes, form,
        groups=read_groups(table, used, required=required),
    )  # fmt: skip


def read_valued(source: Any, request: Request) -> Dataset:
    """Read and check texts with numbers; see `load_data`."""
    table = read_table(source)
    required = request.require_labels
    used = choose_text_columns(
        table, request.columns, REGRESSION, REGRESSION_ROLES, "target", TARGET_NAMES, required=required
    )
    inputs, text_notes = read_texts(table, used, request.columns)
    targets, target_notes = read_values(table, used["target"], required=required) if "target" in used else (None, ())
    notes = (*table.notes, *text_notes, *target_notes)
    return Dataset(
        REGRESSION, inputs, targets, (), used, table.source, table.sha256, table, notes,
        groups=read_groups(table, used, required=required),
    )  # fmt: skip


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
