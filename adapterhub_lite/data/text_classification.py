"""Texts with one label each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.api import Request
from adapterhub_lite.data.columns import check_roles, find, guess, missing, shortened
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.labels import Labels, read_labels
from adapterhub_lite.data.readers import read_table
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError

TASK = "text-classification"

# In the order tried: the names people give these columns.
TEXT_NAMES = (
    *("text", "sentence", "content", "utterance", "query", "review", "message", "comment", "question", "document"),
    *("clause", "description", "tweet", "body", "input", "prompt", "code", "title"),
)
LABEL_NAMES = (
    *("label", "category", "intent", "class", "target", "labels", "topic", "sentiment", "tag", "class_label"),
    *("label_text", "coarse_label", "output", "y"),
)


def read(source: Any, request: Request) -> Dataset:
    """Read and check labelled texts; see `load_data`."""
    table = read_table(source)
    labels, require_labels = request.labels, request.require_labels
    used = choose_columns(table, request.columns, require_labels)
    texts = [checked_text(value, table, row, used["text"]) for row, value in enumerate(table.column(used["text"]))]
    if "label" in used:
        found = read_labels(table, used["label"], known=labels, required=require_labels)
    else:
        found = Labels(None, tuple(labels or ()), ())
    notes = table.notes + found.notes
    return Dataset(TASK, texts, found.targets, found.names, used, table.source, table.sha256, table, notes)


def checked_text(value: Any, table: Table, row: int, column: str, what: str = "text") -> str:
    """The value, if it is text that a tokenizer can be given."""
    if missing(value):
        raise DataError(f"{table.where(row, column)}: {what} is missing; fill it in or remove the row")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise DataError(f"{table.where(row, column)}: {what} is of type {kind}, not text; choose a column of text")
    if not value.strip():
        raise DataError(f"{table.where(row, column)}: {what} is empty; fill it in or remove the row")
    if "\0" in value:
        position = value.index("\0") + 1
        raise DataError(f"{table.where(row, column)}: {what} has a NUL character at position {position}; remove it")
    return value


def choose_columns(table: Table, given: Mapping[str, str], require_labels: bool) -> dict[str, str]:
    """The text and label columns: as given, else by their names, else by what two columns hold."""
    check_roles(given, ("text", "label"), TASK)
    used = {role: find(table, name, role) for role, name in given.items()}
    taken = tuple(used.values())
    for role, names in (("text", TEXT_NAMES), ("label", LABEL_NAMES)):
        if role not in used:
            name = guess(table, names, (*taken, *used.values()))
            if name is not None:
                used[role] = name
    if len(table.columns) <= 2:
        used = _fill_from_two(table, used, require_labels)
    for role in ("text", "label"):
        if role not in used and (role == "text" or require_labels):
            raise DataError(
                f"{table.source}: cannot tell which column is the {role}; "
                f"name one with --{role}-column (columns={{{role!r}: NAME}} in Python): {shortened(table.columns)}"
            )
    return {role: used[role] for role in ("text", "label") if role in used}


def _fill_from_two(table: Table, used: dict[str, str], require_labels: bool) -> dict[str, str]:
    """With at most two columns, the one left over has the role left over, if what it holds allows that."""
    rest = [name for name in table.columns if name not in used.values()]
    words = {name: _mean_words(table, name) for name in rest}
    if "text" in used:
        return {**used, "label": rest[0]} if "label" not in used and rest and require_labels else used
    if "label" in used or len(table.columns) == 1:
        return {**used, "text": rest[0]} if rest and words[rest[0]] > 0 else used
    text, other = sorted(rest, key=lambda name: words[name], reverse=True)
    if words[text] >= 3 > words[other]:
        return {"text": text, "label": other}
    return used


def _mean_words(table: Table, column: str) -> float:
    values = table.values(column, 0, 200)
    return sum(len(value.split()) if isinstance(value, str) else 0 for value in values) / len(values)
