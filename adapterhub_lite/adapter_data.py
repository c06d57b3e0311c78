"""Data for a trained adapter: read by the task, labels and columns it was trained with. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.data import Dataset, load_data, read_table
from adapterhub_lite.errors import DataError
from adapterhub_lite.storage import TaskRecord


def read_for(task: TaskRecord, source: Any, *, require_labels: bool) -> Dataset:
    """Read and check data for an adapter.

    The columns of training are used where the data has them; other names are guessed, as in training.

    Raises:
        DataError: bad data, or a label the adapter was not trained on; names file, row and column.
    """
    columns = _columns_there(task.columns, source)
    return load_data(source, task.name, columns=columns, labels=task.labels or None, require_labels=require_labels)


def _columns_there(columns: Mapping[str, str], source: Any) -> dict[str, str]:
    if not columns:
        return {}
    try:
        there = read_table(source).columns
    except DataError:
        return {}  # a folder of images, or something that the reader for the task will refuse by name
    found = {role: name for role, name in columns.items() if name in there}
    return found if set(found) >= {role for role in columns if role in ("text", "prompt", "messages", "image")} else {}
