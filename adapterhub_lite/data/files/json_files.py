"""JSON Lines files, and JSON files that hold an array of objects."""

from __future__ import annotations

import json
import re
from array import array
from pathlib import Path
from typing import Any

from adapterhub_lite.data.arrays import RowBuilder
from adapterhub_lite.data.files.text import open_text, undecodable
from adapterhub_lite.data.table import Table, place
from adapterhub_lite.errors import DataError
from adapterhub_lite.names import first_repeated

SPACE = re.compile(r"[ \t\r\n]*")


def read_json_lines(path: Path, source: str, sha256: str) -> Table:
    """Read a file with one JSON object a line; blank lines are skipped."""
    builder = RowBuilder(source)
    lines = array("q")
    builder.lines = lines
    try:
        with open_text(path, source) as file:
            for number, text in enumerate(file, start=1):
                if text.isspace():
                    continue
                where = place(source, len(lines), number)
                lines.append(number)
                try:
                    value = DECODER.decode(text)
                except json.JSONDecodeError as error:
                    spot = f"character {error.pos + 1}"
                    raise DataError(f"{where}: not valid JSON, {error.msg} at {spot}; repair the line") from error
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: not usable JSON, {error}; repair the line") from error
                builder.add(_checked(value, where), len(text))
    except UnicodeDecodeError as error:
        raise undecodable(path, source) from error
    if not lines:
        raise DataError(f"{source}: is empty; each line must hold one JSON object")
    return Table(source, builder.finish(), sha256, lines, mapped=builder.mapped)


def read_json_array(path: Path, source: str, sha256: str) -> Table:
    """Read a file that holds one JSON array of objects, an object at a time so that an error can name its row."""
    try:
        with open_text(path, source) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise undecodable(path, source) from error
    position = _skip(text, 0)
    if position == len(text):
        raise DataError(f"{source}: is empty; it must hold an array of objects, [{{...}}, ...]")
    if text[position] != "[":
        hint = "; if it holds one object a line, rename it to .jsonl" if text[position] == "{" else ""
        raise DataError(f"{source}, line 1: must hold an array of objects, [{{...}}, ...]{hint}")
    builder = RowBuilder(source)
    lines = array("q")
    builder.lines = lines
    line, counted = 1, 0
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        lines.append(line)
        where = place(source, len(lines) - 1, line)
        try:
            value, end = DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            spot = f"line {error.lineno}, character {error.colno}"
            raise DataError(f"{where}: not valid JSON, {error.msg} at {spot}; repair the file") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not usable JSON, {error}; repair the file") from error
        builder.add(_checked(value, where), end - position)
        position = _skip(text, end)
        mark = text[position : position + 1]
        if mark == ",":
            position = _skip(text, position + 1)
        elif mark != "]":
            reached = repr(mark) if mark else "the end of the file"
            raise DataError(f"{where}: expected ',' or ']' after this object, found {reached}; repair the file")
    rest = _skip(text, position + 1)
    if rest != len(text):
        raise DataError(
            f"{source}, line {text.count(chr(10), 0, rest) + 1}: more text after the array's closing ']'; remove it"
        )
    if not lines:
        raise DataError(f"{source}: holds an empty array; add rows")
    return Table(source, builder.finish(), sha256, lines, mapped=builder.mapped)


def _checked(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f'{where}: is {_kind(value)}, not an object; write it as {{"column": value, ...}}')
    if not value:
        raise DataError(f"{where}: is an empty object; give it values or remove it")
    return value


def _kind(value: object) -> str:
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
