"""Which row of the source, and which group of rows, each encoded example comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.task import Encoded


def rows_of(data: Dataset) -> Sequence[int]:
    """The number, counted from 0, that each row of a dataset has in its source."""
    return data.table.rows if data.table is not None and data.table.rows is not None else range(len(data))


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
