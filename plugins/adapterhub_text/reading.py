"""Texts or pairs of texts with labels, one a row or any number of them, or with a number each."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.api import Dataset, Request, read_choices, read_groups, read_table, read_values
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
