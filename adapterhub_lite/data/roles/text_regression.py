"""Texts or pairs of texts with a number each."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.request import Request
from adapterhub_lite.data.roles.groups import read_groups
from adapterhub_lite.data.roles.numbers import read_values
from adapterhub_lite.data.roles.text_columns import choose_text_columns, read_texts

TASK = "text-regression"
ROLES = ("text", "pair", "target", "group")
TARGET_NAMES = ("target", "score", "rating", "value", "similarity", "price", "stars", "label", "y")


def read(source: Any, request: Request) -> Dataset:
    """Read and check texts with numbers; see `load_data`."""
    table = read_table(source)
    required = request.require_labels
    used = choose_text_columns(table, request.columns, TASK, ROLES, "target", TARGET_NAMES, required=required)
    inputs, text_notes = read_texts(table, used, request.columns)
    targets, target_notes = read_values(table, used["target"], required=required) if "target" in used else (None, ())
    notes = (*table.notes, *text_notes, *target_notes)
    return Dataset(
        TASK, inputs, targets, (), used, table.source, table.sha256, table, notes,
        groups=read_groups(table, used, required=required),
    )  # fmt: skip
