"""Texts or pairs of texts with labels, one a row or any number of them, or with a number each."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from adapterhub_lite.api import (
    DataError,
    Dataset,
    FileOptions,
    Request,
    Table,
    number_of,
    read_choices,
    read_groups,
    read_table,
    refuse_header,
)
from adapterhub_text.columns import choose_text_columns, read_texts
from adapterhub_text.folder import holds_texts, read_text_folder
from adapterhub_text.label_text import read_label_text
from adapterhub_text.options import CLASSIFICATION, CLASSIFICATION_ROLES, LABEL_TEXT, REGRESSION, REGRESSION_ROLES

# In the order tried: the names people give these columns.
LABEL_NAMES = (
    *("label", "category", "intent", "class", "target", "labels", "topic", "sentiment", "tag", "class_label"),
    *("label_text", "coarse_label", "output", "y", "tags"),
)
TARGET_NAMES = ("target", "score", "rating", "value", "similarity", "price", "stars", "label", "y")


def read_labelled(source: Any, request: Request) -> Dataset:
    """Read and check labelled texts; see `load_data`."""
    table = _table(source, request.files, request.require_labels)
    required = request.require_labels
    used = choose_text_columns(
        table, request.columns, CLASSIFICATION, CLASSIFICATION_ROLES, "label", LABEL_NAMES, required=required
    )
    inputs, text_notes = read_texts(table, used, request.columns)
    used, form, labels = read_choices(table, used, request)
    notes = (*table.notes, *text_notes, *labels.notes)
    return Dataset(
        CLASSIFICATION, inputs, labels.targets, labels.names, used, table.source, table.sha256, table, notes, form,
        groups=read_groups(table, used, required=required), unknown=labels.unknown,
    )  # fmt: skip


def _table(source: Any, files: FileOptions, required: bool) -> Table:
    """The source as a table: a file of labels with texts, a folder of class folders, or what every task reads."""
    if files.format == LABEL_TEXT:
        return read_label_text(source, files)
    if holds_texts(source) and files.format is None:
        return read_text_folder(source, files, required)
    try:
        return read_table(source)
    except DataError as error:
        if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".txt" and Path(source).is_file():
            raise DataError(
                f"{error}; --format {LABEL_TEXT} where each line is a label, a space, and a text"
            ) from error
        raise


def read_valued(source: Any, request: Request) -> Dataset:
    """Read and check texts with numbers; see `load_data`."""
    table = read_table(source)
    required = request.require_labels
    used = choose_text_columns(
        table, request.columns, REGRESSION, REGRESSION_ROLES, "target", TARGET_NAMES, required=required
    )
    inputs, text_notes = read_texts(table, used, request.columns)
    if "target" in used and "target" not in request.columns and math.isfinite(number_of(used["target"])[0]):
        refuse_header(table, used["target"], "target", "which is a number")
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
