"""JSON Lines files, and JSON files that hold an array of rows, or an object with one such array a split."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapterhub_lite.data.arrays import RowBuilder
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.files.references import parse_reference
from adapterhub_lite.data.files.text import open_text, undecodable
from adapterhub_lite.data.roles.columns import shortened
from adapterhub_lite.data.table import Table, place
from adapterhub_lite.errors import DataError
from adapterhub_lite.names import did_you_mean, first_repeated

SPACE = re.compile(r"[ \t\r\n]*")


def read_json_lines(path: Path, source: str, sha256: str, files: FileOptions) -> Table:
    """Read a file with one JSON object, or one array of values, a line; blank lines are skipped."""
    rows = _Rows(source)
    try:
        with open_text(path, source, files.encoding) as file:
            for number, text in enumerate(file, start=1):
                if text.isspace():
                    continue
                try:
                    value = DECODER.decode(text)
                except json.JSONDecodeError as error:
                    spot, where = f"character {error.pos + 1}", place(source, len(rows.lines), number)
                    raise DataError(f"{where}: not valid JSON, {error.msg} at {spot}; repair the line") from error
                except (ValueError, RecursionError) as error:
                    where = place(source, len(rows.lines), number)
                    raise DataError(f"{where}: not usable JSON, {error}; repair the line") from error
                rows.add(value, number, len(text))
    except UnicodeDecodeError as error:
        raise undecodable(path, source, files.encoding) from error
    return rows.table(sha256, "is empty; each line must hold one JSON object")


def read_json(path: Path, source: str, sha256: str, files: FileOptions) -> Table:
    """Read a JSON file: an array of rows, each an object or an array of values, or an object with one such array a split.

    An object at a time, so that an error can name its row. The split is named as in `file.json#train`.
    """
    try:
        with open_text(path, source, files.encoding) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise undecodable(path, source, files.encoding) from error
    position = _skip(text, 0)
    if position == len(text):
        raise DataError(f"{source}: is empty; it must hold an array of objects, [{{...}}, ...]")
    notes: tuple[str, ...] = ()
    split, inner = parse_reference(source)[1], position
    if text[position] == "{":
        inner, notes = _find_split(text, position, source, split)
    elif split:
        raise DataError(f"{source}: holds one array and no splits; leave out #{split}")
    elif text[position] != "[":
        raise DataError(f"{source}, line 1: must hold an array of objects, [{{...}}, ...]")
    rows = _Rows(source)
    end = _walk(text, inner, source, rows.add)
    rest = _skip(text, end)
    if inner == position and rest != len(text):
        line = text.count("\n", 0, rest) + 1
        raise DataError(f"{source}, line {line}: more text after the array's closing ']'; remove it")
    return rows.table(sha256, "holds an empty array; add rows", notes)


class _Rows:
    """The rows of a file as they come: objects, or arrays of as many values as the first has."""

    def __init__(self, source: str):
        self.source = source
        self.lines = array("q")
        self._builder = RowBuilder(source)
        self._builder.lines = self.lines
        self._width = 0

    def add(self, value: Any, line: int, size: int) -> None:
        """Keep the row that begins on `line` and has `size` characters.

        Raises:
            DataError: it is none.
        """
        if isinstance(value, list) and value and (self._width or not self.lines):
            self._width = self._width or len(value)
            if len(value) != self._width:
                where = place(self.source, len(self.lines), line)
                raise DataError(f"{where}: has {len(value)} values where the first row has {self._width}; correct it")
            value = {f"column_{number}": entry for number, entry in enumerate(value, start=1)}
        elif self._width or not isinstance(value, dict) or not value:
            where = place(self.source, len(self.lines), line)
            if value == {} and not self._width:
                raise DataError(f"{where}: is an empty object; give it values or remove it")
            wanted = "an array, as the first row is" if self._width else "an object"
            raise DataError(f'{where}: is {_kind(value)}, not {wanted}; write it as {{"column": value, ...}}')
        self.lines.append(line)
        self._builder.add(value, size)

    def table(self, sha256: str, empty: str, notes: tuple[str, ...] = ()) -> Table:
        """All rows; `empty` says what is wrong where there are none."""
        if not self.lines:
            raise DataError(f"{self.source}: {empty}")
        return Table(self.source, self._builder.finish(), sha256, self.lines, notes=notes, mapped=self._builder.mapped)


def _walk(text: str, position: int, source: str, add: Callable[[Any, int, int], None]) -> int:
    """Give each value of the array that opens at `position` to `add`, with its line and size; returns where it ends."""
    line, counted, row = 1, 0, 0
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            spot = f"line {error.lineno}, character {error.colno}"
            where = place(source, row, line)
            raise DataError(f"{where}: not valid JSON, {error.msg} at {spot}; repair the file") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place(source, row, line)}: not usable JSON, {error}; repair the file") from error
        add(value, line, end - position)
        row += 1
        position = _skip(text, end)
        mark = text[position : position + 1]
        if mark == ",":
            position = _skip(text, position + 1)
        elif mark != "]":
            reached = repr(mark) if mark else "the end of the file"
            where = place(source, row - 1, line)
            raise DataError(f"{where}: expected ',' or ']' after this object, found {reached}; repair the file")
    return position + 1


def _find_split(text: str, position: int, source: str, split: str) -> tuple[int, tuple[str, ...]]:
    """Where the rows of a split begin in a file that holds an object; where none is named, those of its only one.

    Raises:
        DataError: no such split, several of which none is named, or an object without any.
    """
    starts: dict[str, int] = {}
    position = _skip(text, position + 1)
    try:
        while text[position : position + 1] != "}":
            key, position = DECODER.raw_decode(text, position)
            position = _skip(text, position)
            if not isinstance(key, str) or text[position : position + 1] != ":":
                raise ValueError("a key is missing")
            position = _skip(text, position + 1)
            if text[position : position + 1] == "[":
                if text[_skip(text, position + 1)] in "[{":
                    starts[key] = position
                position = _skip(text, _walk(text, position, f"{source}, {key!r}", lambda *_: None))
            else:
                position = _skip(text, DECODER.raw_decode(text, position)[1])
            position = _skip(text, position + 1) if text[position : position + 1] == "," else position
    except (ValueError, RecursionError, IndexError) as error:
        raise DataError(f"{source}: not valid JSON ({error}); repair the file") from error
    if _skip(text, position + 1) != len(text) or not starts:
        raise DataError(
            f"{source}, line 1: must hold an array of objects, [{{...}}, ...], or one such array a split, "
            f'{{"train": [...], ...}}; if it holds one object a line, rename it to .jsonl'
        )
    if split in starts:
        return starts[split], ()
    shown = shortened(list(starts))
    if split:
        raise DataError(f"{source}: there is no split {split!r}{did_you_mean(split, list(starts))}; it has {shown}")
    if len(starts) > 1:
        raise DataError(f"{source}: holds several splits ({shown}); give one, such as '{source}#{next(iter(starts))}'")
    (name, start), *_ = starts.items()
    return start, (f"{source}: the rows are those under {name!r}",)


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string"
    return "null" if value is None else "a number or boolean"


def _skip(text: str, position: int) -> int:
    match = SPACE.match(text, position)
    return match.end() if match else position


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys without a word; that would be a value lost without a word.
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError(f"key {first_repeated([name for name, _ in pairs])!r} appears twice in one object")
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)
