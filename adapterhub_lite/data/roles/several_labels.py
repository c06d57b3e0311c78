"""Several labels in a row: as a list, a list written as text, a text with a separator, or a column of 0 and 1 for each."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from adapterhub_lite.data.roles.columns import counted, find_column, is_missing, shortened
from adapterhub_lite.data.roles.labels import Labels, notes_on_names, one_label, ordered_labels, unknown_labels
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError
from adapterhub_lite.names import did_you_mean

SEPARATORS = ("|", ";", ",")
# A list as Python writes it. NumPy leaves the commas out, and Python then takes two texts for one.
_TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?\d+|True|False|None)"""
PYTHON_LIST = re.compile(rf"\[\s*(?:{_TEXT}\s*(?:,\s*{_TEXT}\s*)*,?)?\s*\]")
YES_NO = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}


def is_list_column(table: Table, column: str) -> bool:
    """Whether a column holds lists alone: at least one, and otherwise missing values."""
    values = [value for value in table.values(column, 0, 200) if not is_missing(value)]
    if not any(isinstance(value, list) for value in values):
        return False
    return all(is_missing(value) or isinstance(value, list) for value in table.column(column))


def columns_of(table: Table, name: str) -> list[str]:
    """The columns that a role names: one, or several with commas between them."""
    if name in table.columns or "," not in name:
        return [find_column(table, name, "labels")]
    return [find_column(table, column.strip(), "labels") for column in name.split(",")]


def read_several(
    table: Table,
    name: str,
    *,
    known: Sequence[str] | None,
    required: bool,
    separator: str | None = None,
    keep_unknown: bool = False,
) -> Labels:
    """Check the labels of every row and number them; the targets are sorted tuples of indices.

    Labels stand in the order of `known` (those of a trained adapter), else of the names the file gives for integers,
    of the columns where each label has one, else sorted. Where labels are not required (prediction), columns that
    cannot be used give a note, no targets.

    Args:
        table: The rows.
        name: A column, or several with commas between them that hold 0 and 1, each named after its label.
        known: Labels of a trained adapter.
        required: Raise for labels that cannot be used.
        separator: What stands between labels in a text; found out by default.
        keep_unknown: Keep labels that are not known, unless all are.

    Raises:
        DataError: at the first row with something that is no label, or a label that is not known; or a text in which it
            cannot be told what separates the labels.
    """
    columns = columns_of(table, name)
    try:
        notes: list[str] = []
        if len(columns) > 1:
            rows, declared = _indicators(table, columns, known), tuple(columns)
        else:
            declared = table.class_names(name) or ()
            rows = _single_column(table, columns[0], declared, separator, notes)
        return _numbered(table, name, rows, known, declared, notes, required, keep_unknown)
    except DataError as error:
        if required:
            raise
        note = f"column {name!r} is not used as labels: {error}"
        return Labels(None, tuple(known) if known is not None else (), (note,))


def _numbered(
    table: Table,
    column: str,
    rows: list[list[str]],
    known: Sequence[str] | None,
    declared: Sequence[str],
    notes: list[str],
    required: bool,
    keep_unknown: bool,
) -> Labels:
    names = tuple(known) if known is not None else ordered_labels({name for row in rows for name in row}, declared)
    unknown = unknown_labels((name for row in rows for name in row), names, keep=keep_unknown)
    index = {name: position for position, name in enumerate((*names, *unknown))}
    targets = []
    for row, labels in enumerate(rows):
        for name in labels:
            if name not in index:
                raise DataError(
                    f"{table.where(row, column)}: label {name!r} is not one the adapter knows{did_you_mean(name, names)}; "
                    f"known: {shortened(names)}"
                )
        targets.append(tuple(sorted({index[name] for name in labels})))
    if required and known is None and len(set(targets)) < 2:
        what = "no row has a label" if not names else f"every row has the same labels ({shortened(names)})"
        raise DataError(f"{table.source}, column {column!r}: {what}, so that there is nothing to learn")
    repeated = sum(len(labels) > len(target) for labels, target in zip(rows, targets, strict=True))
    if repeated:
        notes.append(f"column {column!r}: {counted(repeated, 'row')} named a label twice, which counts once")
    empty = sum(not target for target in targets)
    if empty:
        notes.append(f"column {column!r}: {empty} of {len(targets)} rows have no label")
    if not empty and all(len(target) == 1 for target in targets):
        notes.append(f"column {column!r}: every row has exactly one label; to choose one, name the column as label")
    if known is None:
        notes += notes_on_names(Counter(name for labels in rows for name in set(labels)), (), column)
    return Labels(tuple(targets), names, tuple(notes), unknown)


def _indicators(table: Table, columns: Sequence[str], known: Sequence[str] | None) -> list[list[str]]:
    """The labels of every row, from one column of 1 and 0 for each label."""
    for name in known or ():
        if name not in columns:
            raise DataError(f"{table.source}: has no column for the label {name!r}; name it among those of the labels")
    rows: list[list[str]] = [[] for _ in range(len(table))]
    for column in columns:
        for row, value in enumerate(table.column(column)):
            text = "" if is_missing(value) else str(value).strip().lower()
            if text not in YES_NO:
                what = "is missing" if not text else f"is {str(value)[:40]!r}"
                raise DataError(f"{table.where(row, column)}: {what}, where 1 or 0 says whether the row has this label")
            if YES_NO[text]:
                rows[row].append(column)
    return rows


def _single_column(
    table: Table, column: str, declared: Sequence[str], separator: str | None, notes: list[str]
) -> list[list[str]]:
    values = [[] if is_missing(value) else value for value in table.column(column)]
    texts = {row: value.strip() for row, value in enumerate(values) if isinstance(value, str)}
    written = [text for text in texts.values() if text]
    if separator is None and written and all(text.startswith("[") and text.endswith("]") for text in written):
        parts = {row: list_in_text(text, table.where(row, column)) if text else [] for row, text in texts.items()}
    else:
        between = separator or _separator(written, table, column)
        if between is not None and any(between in text for text in written):
            many = sum(between in text for text in written)
            how = "separated" if separator else "taken to be separated"
            notes.append(f"column {column!r}: labels are {how} by {between!r} ({counted(many, 'row')})")
        parts = {row: text.split(between) if between and text else [text] for row, text in texts.items()}
    stripped, rows = 0, []
    for row, value in enumerate(values):
        given = parts.get(row, value if isinstance(value, list) else [value])
        where = table.where(row, column)
        labels = [label for label in given if not (isinstance(label, str) and not label.strip())]
        names = [one_label(label, declared or None, where) for label in labels]
        stripped += sum(isinstance(label, str) and label != name for label, name in zip(labels, names, strict=True))
        rows.append(names)
    if stripped:
        notes.append(f"column {column!r}: white space around {counted(stripped, 'label')} removed")
    return rows


def _separator(texts: Sequence[str], table: Table, column: str) -> str | None:
    """The character between the labels, None where no text has one."""
    rows = {separator: sum(separator in text for text in texts) for separator in SEPARATORS}
    present = [separator for separator, count in rows.items() if count]
    if len(present) > 1:
        counts = ", ".join(f"{separator!r} in {counted(rows[separator], 'row')}" for separator in present)
        raise DataError(
            f"{table.source}, column {column!r}: cannot tell what separates the labels ({counts}); "
            f"say it with --task-set 'separator={present[0]}'"
        )
    return present[0] if present else None


def list_in_text(text: str, where: str) -> list[Any]:
    """A list written as JSON or as Python writes it.

    Raises:
        DataError: something else, at the place `where`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if not PYTHON_LIST.fullmatch(text):
            raise DataError(
                f'{where}: {text[:60]!r} is not a list of labels; write ["a", "b"], or a and b with a separator'
            ) from None
        value = ast.literal_eval(text)
    assert isinstance(value, list)
    return value
