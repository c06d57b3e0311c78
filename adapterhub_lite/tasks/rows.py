"""Which row of the source, and which group of rows, each encoded example comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.task import Encoded, Task


def rows_of(data: Dataset) -> Sequence[int]:
    """The number, counted from 0, that each row of a dataset has in its source."""
    return data.table.rows if data.table is not None and data.table.rows is not None else range(len(data))


def encode(task: Task, data: Dataset, base: Base, *, learn: bool = False) -> Encoded:
    """The examples of a dataset, with the row and the group each of them comes from.

    Args:
        task: Turns rows into examples.
        data: Checked rows.
        base: What they are tokenized or measured for.
        learn: They are to be learnt from: with those the task adds, and weighted as its options ask.
    """
    if not learn:
        return numbered(task.encode(data, base), data)
    return numbered(task.balance(task.encode(task.to_learn(data), base)), data)


def numbered(encoded: Encoded, data: Dataset) -> Encoded:
    """Encoded examples whose rows are counted as in the source of a dataset, with their groups; -1 for one in no row."""
    own = encoded.rows if encoded.rows is not None else range(len(encoded.examples))
    source = rows_of(data)
    rows = tuple(source[row] if row < len(source) else -1 for row in own)
    if data.groups is None:
        return replace(encoded, rows=rows)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(data.groups))}
    # An example that is in no row, such as the name of a class, is a group of its own.
    groups = tuple(numbers[data.groups[row]] if row < len(source) else len(numbers) + row for row in own)
    return replace(encoded, rows=rows, groups=groups)
