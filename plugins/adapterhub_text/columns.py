"""Columns of texts and of pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterhub_lite.api import (
    DataError,
    Table,
    check_roles,
    checked_text,
    columns_shown,
    find_column,
    guess_column,
    read_items,
)

# In the order tried: the names people give these columns.
TEXT_NAMES = (
    *("text", "sentence", "content", "utterance", "query", "review", "message", "comment", "question", "document"),
    *("clause", "description", "tweet", "body", "input", "prompt", "code", "title"),
)
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "passage"),
    ("question1", "question2"),
    ("text", "text_pair"),
    ("query", "document"),
)


@dataclass(frozen=True)
class Pair:
    """Two texts of one row: a question and an answer, a premise and a hypothesis."""

    first: str
    second: str


def choose_text_columns(
    table: Table,
    given: Mapping[str, str],
    task: str,
    roles: Sequence[str],
    answer: str,
    answers: Sequence[str],
    *,
    required: bool,
) -> dict[str, str]:
    """Find the column of each role: as the user said, else by its name, else by what the table's only two columns hold.

    Args:
        table: The rows.
        given: Columns the user named.
        task: For messages.
        roles: All roles of the task.
        answer: The role of the column to be learnt; not guessed where the user named one for it, under this role or another.
        answers: Names people give that column, in the order tried.
        required: Raise where no column can be found for the answer.

    Raises:
        DataError: a column that is not there, or a role whose column cannot be told.
        ConfigError: a role that is not one of the task's.
    """  # fmt: skip
    check_roles(given, roles, task)
    used = {role: name if role == "labels" else find_column(table, name, role) for role, name in given.items()}
    if "text" not in used and "pair" not in used:
        used = {**_known_pair(table, tuple(used.values())), **used}
    if "text" not in used:
        name = guess_column(table, TEXT_NAMES, tuple(used.values()))
        used |= {"text": name} if name is not None else {}
    answered = bool(used.keys() - {"text", "pair", "group"})
    if not answered:
        name = guess_column(table, answers, tuple(used.values()))
        used |= {answer: name} if name is not None else {}
        if len(table.columns) <= 2 and "pair" not in used:
            used = _fill_from_two(table, used, answer, required)
    elif len(table.columns) == 2 and "text" not in used:
        rest = [name for name in table.columns if name not in used.values()]
        used |= {"text": rest[0]} if len(rest) == 1 and _mean_words(table, rest[0]) > 0 else {}
    answered = bool(used.keys() - {"text", "pair", "group"})
    for role in ("text", answer):
        if role not in used and (role == "text" or (required and not answered)):
            option = f"--{role}-column" if role in ("text", "label") else f"--column {role}=NAME"
            taken = "".join(f"; {other} is read from {name!r}" for other, name in used.items())
            raise DataError(
                f"{table.source}: cannot tell which column is the {role}; "
                f"name one with {option} (columns={{{role!r}: NAME}} in Python): {columns_shown(table)}{taken}"
            )
    return {role: used[role] for role in roles if role in used}


def read_texts(
    table: Table, used: Mapping[str, str], given: Mapping[str, str]
) -> tuple[Sequence[str | Pair], tuple[str, ...]]:
    """Check the text of every row, or both texts of a pair.

    Returns:
        The texts or pairs; and a note where a pair was recognised that nobody named.

    Raises:
        DataError: one that is missing, empty or no text, naming row and column.
    """
    text_column, pair_column = used["text"], used.get("pair")
    if pair_column is None:
        return read_items(table, [text_column], lambda row, value: checked_text(value, table, row, text_column)), ()

    def pair(row: int, first_value: Any, second_value: Any) -> Pair:
        first = checked_text(first_value, table, row, text_column)
        return Pair(first, checked_text(second_value, table, row, pair_column, "the second text"))

    pairs = read_items(table, [text_column, pair_column], pair)
    if "pair" in given:
        return pairs, ()
    note = f"columns {text_column!r} and {pair_column!r} are read as pairs; name a text column to read it alone"
    return pairs, (note,)


def _known_pair(table: Table, taken: Sequence[str]) -> dict[str, str]:
    for names in PAIR_NAMES:
        text, pair = (guess_column(table, (name,), taken) for name in names)
        if text is not None and pair is not None:
            return {"text": text, "pair": pair}
    return {}


def _fill_from_two(table: Table, used: dict[str, str], answer: str, required: bool) -> dict[str, str]:
    """Give the columns without a role the roles without a column, in a table of at most two: the wordier is the text."""
    rest = [name for name in table.columns if name not in used.values()]
    if not rest:
        return used
    words = {name: _mean_words(table, name) for name in rest}
    if "text" in used:
        return {**used, answer: rest[0]} if answer not in used and required else used
    if answer in used or len(table.columns) == 1:
        return {**used, "text": rest[0]} if words[rest[0]] > 0 else used
    text, other = sorted(rest, key=lambda name: words[name], reverse=True)
    if words[text] >= 3 > words[other]:
        return {"text": text, answer: other}
    return used


def _mean_words(table: Table, column: str) -> float:
    values = table.values(column, 0, 200)
    return sum(len(value.split()) if isinstance(value, str) else 0 for value in values) / len(values)
