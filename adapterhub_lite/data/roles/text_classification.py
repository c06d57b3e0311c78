"""Texts or pairs of texts with one label each, or with any number of them."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.request import Request
from adapterhub_lite.data.roles.choices import read_choices
from adapterhub_lite.data.roles.groups import read_groups
from adapterhub_lite.data.roles.text_columns import choose_text_columns, read_texts

TASK = "text-classification"
ROLES = ("text", "pair", "label", "labels", "group")

# In the order tried: the names people give this column.
LABEL_NAMES = (
    *("label", "category", "intent", "class", "target", "labels", "topic", "sentiment", "tag", "class_label"),
    *("label_text", "coarse_label", "output", "y", "tags"),
)


def read(source: Any, request: Request) -> Dataset:
    """Read and check labelled texts; see `load_data`."""
    table = read_table(source)
    required = request.require_labels
    used = choose_text_columns(table, request.columns, TASK, ROLES, "label", LABEL_NAMES, required=required)
    inputs, text_notes = read_texts(table, used, request.columns)
    used, form, labels = read_choices(table, used, request)
    notes = (*table.notes, *text_notes, *labels.notes)
    return Dataset(
        TASK, inputs, labels.targets, labels.names, used, table.source, table.sha256, table, notes, form,
        groups=read_groups(table, used, required=required),
    )  # fmt: skip
