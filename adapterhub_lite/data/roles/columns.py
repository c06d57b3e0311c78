"""Which column plays which role, as the user said or guessed from the names; and what one holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.names import did_you_mean

SHOWN = 12  # names listed in a message before it says how many more there are


def check_roles(columns: Mapping[str, str], roles: Sequence[str], task: str) -> None:
    """Refuse a role that the task does not have, and one column in two roles; only "group" may share its column."""
    for role in columns:
        if role not in roles:
            raise ConfigError(
                f"columns: {task} has no {role!r} column{did_you_mean(role, roles)}; it has {', '.join(roles)}"
            )
    for role, name in columns.items():
        other = next((key for key, column in columns.items() if key != role and column == name), None)
        if other is not None and "group" not in (role, other):
            raise ConfigError(f"columns: {name!r} is given both as {role!r} and as {other!r}; give each its own column")


def find_column(table: Table, name: str, role: str) -> str:
    """The column `name`, or an error that lists the columns there are."""
    if name in table.columns:
        return name
    raise DataError(
        f"{table.source}: has no column {name!r} (for {role!r}){did_you_mean(name, table.columns)}; "
        f"it has {shortened(table.columns)}"
    )


def guess_column(table: Table, names: Sequence[str], taken: Sequence[str] = ()) -> str | None:
    """The first of `names` that the table has, upper and lower case alike."""
    there = {column.strip().casefold(): column for column in reversed(table.columns) if column not in taken}
    return next((there[name] for name in names if name in there), None)


def columns_shown(table: Table) -> str:
    """The columns of a table for a message on one that cannot be told, with the way out where the first is a row."""
    suffix = table.source.lower().rpartition(".")[2]
    hint = "; or give --no-header if the first line is a row" if suffix in ("csv", "tsv") else ""
    return shortened(table.columns) + (hint if table.columns[0] != "column_1" else "")


def refuse_header(table: Table, column: str, role: str, why: str) -> None:
    """Refuse a column whose name looks like one of its values, but for the names 0, 1, 2, ... that pandas gives.

    Raises:
        DataError: saying why, and what to do.
    """
    if table.columns != tuple(map(str, range(len(table.columns)))):
        raise DataError(
            f"{table.source}: the column of the {role} is called {column!r}, {why}: is the first line a row, and no header? "
            f"Then give --no-header (no_header=True in Python); if it is the header, name it: --column {role}={column}"
        )


def shortened(names: Sequence[str]) -> str:
    """Names for a message, the first dozen where there are many."""
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, as in "1 row" and "2 rows"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def is_missing(value: object) -> bool:
    """Whether a value is absent: None, or the NaN that pandas writes for it."""
    return value is None or value != value  # NaN alone differs from itself


def is_blank(value: object) -> bool:
    """Whether a value is absent, or a text of nothing but white space."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def further_blanks(table: Table, row: int, column: str) -> str:
    """What a message on a blank cell says of those below it, so that all are mended at once; nothing where none is."""
    blanks = sum(map(is_blank, islice(table.iterate(column), row + 1, None)))
    return f", as in {counted(blanks, 'row')} below it" if blanks else ""


def checked_text(value: Any, table: Table, row: int, column: str, what: str = "text") -> str:
    """The value, if it is text that a tokenizer can be given."""
    if is_missing(value):
        more = further_blanks(table, row, column)
        raise DataError(f"{table.where(row, column)}: {what} is missing{more}; fill it in or remove the row")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise DataError(f"{table.where(row, column)}: {what} is of type {kind}, not text; choose a column of text")
    if not value.strip():
        more = further_blanks(table, row, column)
        raise DataError(f"{table.where(row, column)}: {what} is empty{more}; fill it in or remove the row")
    if "\0" in value:
        position = value.index("\0") + 1
        raise DataError(f"{table.where(row, column)}: {what} has a NUL character at position {position}; remove it")
    return value
