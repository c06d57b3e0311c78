"""Texts cut into words, with a tag for each word: a list of words and a list of tags in every row, or a CoNLL file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub_lite.api import (
    DataError,
    Dataset,
    Request,
    Table,
    check_roles,
    columns_shown,
    counted,
    did_you_mean,
    existing,
    file_sha256,
    find_column,
    guess_column,
    is_missing,
    list_in_text,
    notes_on_looks,
    one_label,
    ordered_labels,
    read_groups,
    read_table,
    shortened,
    unknown_labels,
)
from adapterhub_tokens.conll import read_conll
from adapterhub_tokens.options import ROLES, SUFFIXES, TASK

TOKENS_NAMES = ("tokens", "words")
TAGS_NAMES = ("tags", "ner_tags", "labels", "pos_tags", "ner", "pos", "upos")


def read(source: Any, request: Request) -> Dataset:
    """Read and check words with tags; see `load_data`. A target is the tuple of its words' classes."""
    table = _table(source)
    required = request.require_labels
    used = _choose_columns(table, request.columns, required)
    words = [_words(value, table, row, used["tokens"]) for row, value in enumerate(table.column(used["tokens"]))]
    names, targets, notes = tuple(request.labels or ()), None, table.notes
    unknown: tuple[str, ...] = ()
    if "tags" in used:
        try:
            names, targets, unknown = _tags(table, used["tags"], words, request)
            notes = (*notes, *(notes_on_looks(names, used["tags"]) if request.labels is None else ()))
        except DataError as error:
            if required:
                raise
            notes = (*notes, f"column {used['tags']!r} is not used as tags: {error}")
    return Dataset(
        TASK, words, targets, names, used, table.source, table.sha256, table, notes,
        groups=read_groups(table, used, required=required), unknown=unknown,
    )  # fmt: skip


def _table(source: Any) -> Table:
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in SUFFIXES:
        path = existing(os.fspath(source))
        return read_conll(path, os.fspath(source), file_sha256(path, os.fspath(source)))
    return read_table(source)


def _choose_columns(table: Table, given: Mapping[str, str], required: bool) -> dict[str, str]:
    check_roles(given, ROLES, TASK)
    used = {role: find_column(table, name, role) for role, name in given.items()}
    for role, names in (("tokens", TOKENS_NAMES), ("tags", TAGS_NAMES)):
        name = used.get(role) or guess_column(table, names, tuple(used.values()))
        if name is not None:
            used[role] = name
        elif role == "tokens" or required:
            raise DataError(
                f"{table.source}: cannot tell which column holds the {role}; name one with --column {role}=NAME "
                f"(columns={{{role!r}: NAME}} in Python): {columns_shown(table)}"
            )
    return {role: used[role] for role in ROLES if role in used}


def _words(value: Any, table: Table, row: int, column: str) -> list[str]:
    words = _list(value, table, row, column, "words")
    if not words:
        raise DataError(f"{table.where(row, column)}: holds no words; fill it in or remove the row")
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str) or not word.strip() or "\0" in word:
            reason = "is empty" if word in ("", None) else f"is {str(word)[:40]!r}, not a word"
            raise DataError(f"{table.where(row, column)}: word {number} {reason}; correct it or remove it with its tag")
    return words


def _list(value: Any, table: Table, row: int, column: str, what: str) -> list[Any]:
    where = table.where(row, column)
    if isinstance(value, str) and value.strip().startswith("["):  # a CSV can only hold a list as text
        value = list_in_text(value.strip(), where)
    if is_missing(value) or not isinstance(value, list):
        kind = "missing" if is_missing(value) else f"of type {type(value).__name__}"
        raise DataError(f'{where}: is {kind}, not a list of {what}; write ["...", "..."], one for each word')
    return value


def _tags(
    table: Table, column: str, words: Sequence[Sequence[str]], request: Request
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """The names of the tags; for every row, the class of each word; and tags that are not known, numbered behind the names."""
    declared, known = table.class_names(column), request.labels
    rows: list[list[str]] = []
    for row, value in enumerate(table.column(column)):
        tags = _list(value, table, row, column, "tags")
        where = table.where(row, column)
        if len(tags) != len(words[row]):
            raise DataError(
                f"{where}: has {counted(len(tags), 'tag')} for {counted(len(words[row]), 'word')}; give each word one"
            )
        rows.append([_tag(tag, declared, f"{where}, word {number}") for number, tag in enumerate(tags, start=1)])
    names = tuple(known) if known is not None else ordered_labels({tag for row in rows for tag in row}, declared)
    unknown = unknown_labels((tag for row in rows for tag in row), names, keep=request.keep_unknown)
    index = {name: position for position, name in enumerate((*names, *unknown))}
    for row, tags in enumerate(rows):
        for number, tag in enumerate(tags, start=1):
            if tag not in index:
                raise DataError(
                    f"{table.where(row, column)}, word {number}: tag {tag!r} is not one the adapter knows"
                    f"{did_you_mean(tag, names)}; known: {shortened(names)}"
                )
    if request.require_labels and known is None and len(names) < 2:
        raise DataError(f"{table.source}, column {column!r}: every word has the tag {names[0]!r}; 2 are needed")
    return names, tuple(tuple(index[tag] for tag in tags) for tags in rows), unknown


def _tag(tag: Any, declared: Sequence[str] | None, where: str) -> str:
    if is_missing(tag) or (isinstance(tag, str) and not tag.strip()):
        raise DataError(f"{where}: tag is missing; write O for a word that is part of nothing")
    return one_label(tag, declared, where)
