"""A column of labels into class indices."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from adapterhub_lite.data.roles.columns import counted, further_blanks, is_blank, shortened
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.names import did_you_mean

INTEGER = re.compile(r"[+-]?\d{1,18}")
NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?")
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]")
"""Characters beside those of format that show nothing: fillers, the joiner of graphemes, selectors of variants."""


@dataclass(frozen=True)
class Labels:
    """Class indices, or tuples of them, the names they stand for, and what to tell the user."""

    targets: tuple[Any, ...] | None
    names: tuple[str, ...]
    notes: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """Names that are not known, numbered behind `names`; none unless they are to be kept."""


def read_labels(
    table: Table,
    column: str,
    *,
    known: Sequence[str] | None,
    required: bool,
    declared: Sequence[str] | None = None,
    keep_unknown: bool = False,
) -> Labels:
    """Check a label column and number its classes.

    Classes stand in the order of `known` (those of a trained adapter), else of `declared` (names the file gives for
    integers), else sorted, as numbers where all of them are integers. Raises DataError at the first row whose label is
    missing, unusable or not known; with `keep_unknown`, labels that are not known are kept unless all are. Where labels are
    not required (prediction), such a column gives a note, no targets.
    """
    declared = declared if declared is not None else table.class_names(column)
    if known is not None and len(set(known)) != len(known):
        raise ConfigError("labels: a class is named twice; give each class once")
    try:
        texts, stripped = _texts(table, column, declared)
        names = tuple(known) if known is not None else ordered_labels(set(texts), declared)
        unknown = unknown_labels(texts, names, keep=keep_unknown)
        index = {name: position for position, name in enumerate((*names, *unknown))}
        for row, text in enumerate(texts):
            if text not in index:
                raise DataError(
                    f"{table.where(row, column)}: label {_short(text)} is not one the adapter knows"
                    f"{did_you_mean(text, names)}; known: {shortened(names)}"
                )
    except DataError as error:
        if required:
            raise
        note = f"column {column!r} is not used as labels: {error}"
        return Labels(None, tuple(known) if known is not None else (), (note,))
    if required and known is None and len(names) < 2:
        raise DataError(
            f"{table.source}, column {column!r}: every row has label {_short(names[0])}; a classifier needs 2 classes"
        )
    notes = notes_on_names(Counter(texts), declared or (), column) if known is None else []
    if stripped:
        notes.insert(0, f"column {column!r}: white space around {counted(stripped, 'label')} removed")
    return Labels(tuple(index[text] for text in texts), names, tuple(notes), unknown)


def unknown_labels(texts: Iterable[str], names: Sequence[str], *, keep: bool) -> tuple[str, ...]:
    """Those of some labels that are not among the names, in order; none where they are not to be kept, or none is known."""
    there, known = set(texts), set(names)
    return ordered_labels(there - known, None) if keep and there & known else ()


def _texts(table: Table, column: str, declared: Sequence[str] | None) -> tuple[list[str], int]:
    texts: list[str] = []
    stripped = 0
    for row, value in enumerate(table.column(column)):
        blanks = further_blanks(table, row, column) if is_blank(value) else ""
        text = one_label(value, declared, table.where(row, column), blanks)
        stripped += isinstance(value, str) and text != value
        texts.append(text)
    return texts, stripped


def one_label(value: Any, declared: Sequence[str] | None, where: str, blanks: str = "") -> str:
    """The name of the label that a value stands for; `blanks` is said of a missing one, as `further_blanks` writes it.

    Raises:
        DataError: no label, or something that is none, at the place `where`.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas makes floats of integers as soon as one is missing
    if declared is not None and isinstance(value, int) and not isinstance(value, bool):
        if value >= len(declared) or value < -1:
            raise DataError(f"{where}: label {value} has no name; the names are {shortened(declared)}")
        value = declared[value] if value >= 0 else None  # -1 is how `datasets` writes "not labelled"
    if is_blank(value):
        raise DataError(
            f"{where}: label is missing{blanks}; fill it in, remove the row, or choose another label column; where a row may "
            "have none or several, name the column with --column labels=NAME"
        )
    if isinstance(value, float):
        raise DataError(
            f"{where}: label {value!r} is not a whole number; "
            "classes are text, integers or booleans (is this column a measurement?)"
        )
    if not isinstance(value, (str, int)):
        kind = "a list" if isinstance(value, list) else f"a {type(value).__name__}"
        raise DataError(
            f"{where}: label is {kind}; classes are text, integers or booleans, one a row (for several a row name the "
            "column with --column labels=NAME)"
        )
    text = str(value).strip()
    if "\0" in text:
        raise DataError(f"{where}: label contains a NUL character; remove it")
    return text


def ordered_labels(present: Collection[str], declared: Sequence[str] | None) -> tuple[str, ...]:
    """Names in the order in which they are declared, then sorted, as numbers where all of them are integers."""
    if declared:
        in_order = dict.fromkeys(declared)  # a name declared twice is one class
        return (*(name for name in in_order if name in present), *sorted(set(present) - in_order.keys()))
    if all(INTEGER.fullmatch(text) for text in present):
        return tuple(sorted(present, key=lambda text: (int(text), text)))
    return tuple(sorted(present))


def notes_on_names(counts: Mapping[str, int], declared: Sequence[str], column: str) -> list[str]:
    """Notes on classes that may be mistakes: without rows, with a single row, or alike but for case; `counts` is in rows."""
    notes: list[str] = []
    absent = [name for name in declared if name not in counts]
    if absent:
        number = counted(len(absent), "declared class", "declared classes")
        notes.append(f"column {column!r}: {number} without rows: {shortened(absent)}")
    single = sorted(name for name, count in counts.items() if count == 1)
    if single and len(single) == len(counts):
        notes.append(f"column {column!r}: every label occurs once; is it an identifier or free text?")
    elif single:
        notes.append(
            f"column {column!r}: {counted(len(single), 'class', 'classes')} with a single row: {shortened(single)}"
        )
    return notes + notes_on_looks(counts, column)


def notes_on_looks(names: Iterable[str], column: str) -> list[str]:
    """A note where two names are one number, or differ in what a reader does not see."""
    by_look: dict[str, list[str]] = {}
    for name in sorted(names):
        by_look.setdefault(_look(name), []).append(name)
    alike = [names for names in by_look.values() if len(names) > 1]
    if not alike:
        return []
    one, other = alike[0][:2]
    case, number = one.casefold() == other.casefold(), NUMBER.fullmatch(_seen(one))
    how = "differ only in case" if case else "are the same number" if number else "look alike"
    shown = " and ".join(map(repr if case else ascii, (one, other)))
    return [f"column {column!r}: labels {shown} {how}, and are kept apart ({len(alike)} such)"]


def _look(name: str) -> str:
    """A name without what a reader does not see: case, and how a number is written."""
    seen = _seen(name)
    return str(Decimal(seen).normalize()) if NUMBER.fullmatch(seen) else seen


def _seen(name: str) -> str:
    """A name without case, kinds of blanks, characters that show nothing, and forms of Unicode."""
    plain = unicodedata.normalize("NFKC", name)
    seen = "".join(char for char in plain if unicodedata.category(char) != "Cf" and not UNSEEN.fullmatch(char))
    return " ".join(seen.split()).casefold()


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:57] + "...")
