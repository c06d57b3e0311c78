"""The labels of a classification: one in every row, or any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from adapterhub_lite.data.request import SEVERAL, Request
from adapterhub_lite.data.roles.columns import refuse_header
from adapterhub_lite.data.roles.labels import INTEGER, Labels, read_labels
from adapterhub_lite.data.roles.several_labels import is_list_column, read_several
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import ConfigError


def read_choices(
    table: Table, used: Mapping[str, str], request: Request, declared: Sequence[str] | None = None
) -> tuple[dict[str, str], str | None, Labels]:
    """Read the column with the role "label", or those with the role "labels".

    A column of lists whose role was guessed is one of several labels, and so is every column of an adapter that was
    trained on several.

    Args:
        table: The rows.
        used: Columns by role.
        request: Known labels, and whether there have to be any.
        declared: Names of integer labels, where the file gives them outside the table.

    Returns:
        The columns by role, with "labels" in place of "label" where rows have several; the dataset's form; and the labels.

    Raises:
        DataError: labels that cannot be used, naming row and column.
    """
    if {"label", "labels"} <= used.keys():
        raise ConfigError("columns: give 'label' (one a row) or 'labels' (any number a row), not both")
    roles, fresh = dict(used), request.form is None and request.labels is None
    guessed = "label" in used and "label" not in request.columns
    if request.form == SEVERAL or (fresh and guessed and is_list_column(table, used["label"])):
        roles = {"labels" if role == "label" else role: name for role, name in used.items()}
    form = SEVERAL if "labels" in roles or request.form == SEVERAL else None
    known, required, keep = request.labels, request.require_labels, request.keep_unknown
    if "labels" in roles:
        labels = read_several(
            table, roles["labels"], known=known, required=required, keep_unknown=keep,
            separator=getattr(request.options, "separator", None),
        )  # fmt: skip
        return roles, form, labels
    if "label" in roles:
        if guessed:
            _check_header(table, roles["label"], known)
        labels = read_labels(
            table, roles["label"], known=known, required=required, declared=declared, keep_unknown=keep
        )
        compound = [name for name in labels.names if "|" in name or ";" in name or (name[:1], name[-1:]) == ("[", "]")]
        if fresh and guessed and compound:
            note = (
                f"column {roles['label']!r}: labels such as {compound[0][:60]!r} are taken to be one each; where they are "
                f"several, name the column with --column labels={roles['label']}"
            )
            labels = replace(labels, notes=(*labels.notes, note))
        return roles, form, labels
    return roles, form, Labels(None, tuple(known or ()), ())


def _check_header(table: Table, column: str, known: Sequence[str] | None) -> None:
    """Refuse a label column whose name is one of its labels: then the file has no header, and its first row would be lost.

    Raises:
        DataError: naming the row that has the label.
    """
    name = column.strip()
    row = next((row for row, value in enumerate(table.iterate(column)) if str(value).strip() == name), None)
    if row is not None:
        refuse_header(table, column, "label", f"which is the label of row {row + 1} as well")
    if known and name in known:
        refuse_header(table, column, "label", "which is one of the adapter's labels")
    if INTEGER.fullmatch(name):
        refuse_header(table, column, "label", "which is a number")
