"""The lines of a text file of series, and the errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adapterhub_lite.api import DataError, open_text, place, undecodable


def numbered_lines(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, without white space around it, with its number from 1."""
    try:
        with open_text(path, source) as file:
            for number, line in enumerate(file, start=1):
                text = line.strip()
                if "\0" in text:
                    raise DataError(f"{place(source, line=number)}: holds a NUL character; is this a text file?")
                if text:
                    yield number, text
    except UnicodeDecodeError as error:
        raise undecodable(path, source) from error


def number_error(source: str, row: int, line: int, channel: int, error: ValueError, channels: int) -> DataError:
    """Turn an error of `fields_to_numbers` into one that names row, line and step."""
    position, reason = error.args
    where = f"dimension {channel + 1}, step {position + 1}" if channels > 1 else f"step {position + 1}"
    return DataError(f"{place(source, row, line)}, {where}: {reason}")
