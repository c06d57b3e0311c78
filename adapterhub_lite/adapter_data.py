"""Data for a trained adapter: read by the task, labels and columns it was trained with. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.data import Dataset, load_data, read_table
from adapterhub_lite.errors import DataError
from adapterhub_lite.storage import TaskRecord


def read_for(
    task: TaskRecord, source: Any, *, columns: Mapping[str, str] | None = None, require_labels: bool
) -> Dataset:
    """Read and check data for an adapter.

    Args:
        task: What the adapter was trained for.
        source: What `load_data` takes.
        columns: Which column plays which role; by default as in training where the data has those, else guessed.
        require_labels: False for prediction.

    Raises:
        DataError: bad data, or a label the adapter was not trained on; names file, row and column.
    """
    if task.name != "image-classification":
        source = read_table(source)
    used = columns or _columns_there(task.columns, source)
    return load_data(source, task.name, columns=used, labels=task.labels or None, require_labels=require_labels)


def _columns_there(columns: Mapping[str, str], source: Any) -> dict[str, str]:
    """Those of training's columns that a table has, if the one with the inputs is among them."""
    if not columns:
        return {}
    try:
        there = read_table(source).columns
    except DataError:
        return {}  # a folder of images or an .npz, which have no columns to choose from
    found = {role: name for role, name in columns.items() if name in there}
    inputs = {role for role in columns if role in ("text", "prompt", "messages", "image")}
    return found if inputs <= set(found) else {}
