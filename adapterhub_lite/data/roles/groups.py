"""A column that says what each row came from, such as a patient or a company."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from adapterhub_lite.data.roles.columns import is_missing
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError


def read_groups(table: Table, used: Mapping[str, str], *, required: bool) -> tuple[Hashable, ...] | None:
    """The value of the column with the role "group" in every row; None where no column has it.

    Raises:
        DataError: a row without a group, or with a list or an object in its place, where groups are required.
    """
    if "group" not in used:
        return None
    groups = []
    for row, value in enumerate(table.column(used["group"])):
        if is_missing(value) or (isinstance(value, str) and not value.strip()) or isinstance(value, (list, dict)):
            if not required:
                return None
            what = "is a list or an object" if isinstance(value, (list, dict)) else "is missing"
            raise DataError(f"{table.where(row, used['group'])}: group {what}; give each row what it came from")
        groups.append(value)
    return tuple(groups)


def numbered(groups: Sequence[Hashable]) -> list[int]:
    """The number of each row's group, from 0 on in the order in which they come."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [numbers[group] for group in groups]
