"""CSV and TSV files, through the csv module so that an error can name the row and the line."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

import pyarrow as pa

from adapterhub_lite.data.arrays import BATCH_CHARACTERS, BATCH_ROWS
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.files.text import open_text, undecodable
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.data.spill import Batches
from adapterhub_lite.data.table import Table, check_names, place
from adapterhub_lite.errors import DataError

FIELD_LIMIT = 1 << 24  # characters in one field; more than this is a quote that was never closed
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_delimited(path: Path, source: str, sha256: str, files: FileOptions) -> Table:
    """Read a CSV or TSV file; every column is text, and every row must have one value a column."""
    # The limit is the csv module's own, for the whole process. It is only ever raised: putting it back would pull it
    # from under another thread's reader.
    csv.field_size_limit(max(FIELD_LIMIT, csv.field_size_limit()))
    preferred = "\t" if "tsv" in (files.format, path.suffix.lower().removeprefix(".")) else ","
    try:
        separator = _separator(path, source, preferred, files)
        return _read(path, source, sha256, separator, preferred, files)
    except UnicodeDecodeError as error:
        raise undecodable(path, source, files.encoding) from error


def _separator(path: Path, source: str, preferred: str, files: FileOptions) -> str:
    """The usual separator of files with this suffix; where it does not split the header, the one that splits it most."""
    with open_text(path, source, files.encoding) as file:
        header = next((line for line in file if line.strip()), "")
    quoting = _quoting(files)
    widths = {
        separator: len(next(csv.reader([header], delimiter=separator, quoting=quoting), [])) for separator in SEPARATORS
    }
    return preferred if widths[preferred] > 1 else max([preferred, *SEPARATORS], key=widths.__getitem__)


def _quoting(files: FileOptions) -> Literal[0, 3]:
    return csv.QUOTE_NONE if files.quoting == "none" else csv.QUOTE_MINIMAL


def _read(path: Path, source: str, sha256: str, separator: str, preferred: str, files: FileOptions) -> Table:
    lines = array("q")
    batches = Batches()
    blank, blank_before_row = 0, 0
    with open_text(path, source, files.encoding) as file:
        reader = csv.reader(file, delimiter=separator, strict=True, quoting=_quoting(files))
        records = _records(reader, source, -1 if not files.no_header else 0)
        first = next(((line, record) for line, record in records if record), None)
        if first is None:
            raise DataError(f"{source}: is empty; the first line must name the columns")
        names = _names(first[1], source, files)
        if files.no_header:
            records = chain([first], records)
        schema = pa.schema([(name, pa.utf8()) for name in names])
        rows: list[list[str]] = []
        characters = 0
        for line, record in records:
            if not record:
                blank += 1
                continue
            blank_before_row = blank
            if len(record) != len(names):
                where = place(source, len(lines), line)
                raise DataError(
                    f"{where}: has {counted(len(record), 'value')} where the {'first row' if files.no_header else 'header'} has "
                    f"{counted(len(names), 'column')}; {_advice(separator, files)}"
                )
            lines.append(line)
            rows.append(record)
            characters += sum(map(len, record))
            if len(rows) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                batches.add(pa.record_batch(list(map(list, zip(*rows, strict=True))), schema=schema))
                rows, characters = [], 0
        if rows:
            batches.add(pa.record_batch(list(map(list, zip(*rows, strict=True))), schema=schema))
    if not lines:
        raise DataError(f"{source}: has a header ({', '.join(names)}) but no rows; add rows below it")
    notes = []
    if separator != preferred:
        notes.append(f"{source}: columns are separated by {SEPARATORS[separator]}, not {SEPARATORS[preferred]}")
    if blank_before_row:
        notes.append(f"{source}: {counted(blank_before_row, 'blank line')} between rows skipped")
    kept, mapped = batches.finish()
    return Table(source, pa.Table.from_batches(kept, schema), sha256, lines, notes=tuple(notes), mapped=mapped)


def _advice(separator: str, files: FileOptions) -> str:
    if files.quoting == "none":
        return (
            f"without quotes no value can contain {SEPARATORS[separator]}; leave out --quoting none, or repair the row"
        )
    return f"put values that contain {SEPARATORS[separator]} in double quotes"


def _records(reader: Iterator[list[str]], source: str, row: int) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; a csv error becomes one that names the row. A header is row -1."""
    while True:
        start = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            stop = reader.line_num  # type: ignore[attr-defined]
            where = place(source, row, start) if row >= 0 else f"{source}, line {start} (the header)"
            raise DataError(f"{where}: {_reason(str(error), start, stop)}") from error
        yield start, record
        row += bool(record)


def _reason(error: str, start: int, stop: int) -> str:
    plain = "or give --quoting none where quotes enclose nothing"
    if "unexpected end of data" in error:
        return (
            "a double quote opens in this row and never closes; close it, or double every quote inside a quoted value, "
            f"{plain}"
        )
    if "field limit" in error:
        return f"one value is longer than {FIELD_LIMIT:,} characters; is a double quote in this row never closed?"
    span = f" (by line {stop})" if stop > start else ""
    return f"bad quoting{span}, {error}; double every quote inside a quoted value, {plain}"


def _names(header: list[str], source: str, files: FileOptions) -> list[str]:
    names = [f"column_{n}" for n in range(1, len(header) + 1)] if files.no_header else [name.strip() for name in header]
    if any("\0" in name for name in names):
        raise DataError(f"{source}, line 1 (the header): contains NUL characters; is this a text file, saved as UTF-8?")
    for index, name in enumerate(names):
        if not name:
            hint = " (pandas writes one for its index: use to_csv(..., index=False))" if index == 0 else ""
            raise DataError(f"{source}: column {index + 1} of the header has no name; name it or remove it{hint}")
    check_names(names, f"{source}: the header")
    return names
