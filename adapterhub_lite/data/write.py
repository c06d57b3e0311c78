"""Writing rows back with new columns beside them, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from adapterhub_lite.data.arrays import column_array
from adapterhub_lite.data.roles.columns import is_missing
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import ConfigError, StorageError
from adapterhub_lite.storage.disk import sync_directory

CHUNK = 4096  # rows held as Python objects at a time


def write_rows(path: str | os.PathLike[str], table: Table, extra: Mapping[str, Sequence[Any]]) -> None:
    """Write the table's columns and the extra ones as .csv, .tsv, .jsonl or .parquet.

    An extra column named like one of the input's becomes `predicted_NAME`, or `NAME_2`, `NAME_3`, ... where that is
    taken too. In CSV and TSV, lists and objects are written as JSON and missing values as nothing. The file appears
    whole or not at all: it is written beside its final name, synced and renamed. Raises StorageError where it cannot be
    written, and ConfigError for another suffix.
    """
    target = Path(path).expanduser()
    writer = WRITERS.get(target.suffix.lower())
    if writer is None:
        raise ConfigError(
            f"{target}: cannot write files of type {target.suffix or '(no suffix)'}; use {' '.join(WRITERS)}"
        )
    for name, values in extra.items():
        if len(values) != len(table):
            raise ValueError(f"extra column {name!r} has {len(values)} values for {len(table)} rows")
    columns = {renamed: extra[name] for name, renamed in new_names(table.columns, list(extra)).items()}
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with temporary.open("xb") as file:
            writer(file, table, columns)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StorageError(
            f"{target}: could not be written ({error.strerror or error}); check the folder and its space"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # gone already where all went well
            temporary.unlink()


def new_names(taken: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """The name under which each extra column is written, so that none hides a column of the input."""
    used = set(taken) | set(extra)
    names = {}
    for name in extra:
        chosen = name
        if name in taken:
            candidates = (f"predicted_{name}", *(f"{name}_{number}" for number in range(2, len(used) + 3)))
            chosen = next(candidate for candidate in candidates if candidate not in used)
            used.add(chosen)
        names[name] = chosen
    return names


def _rows(table: Table, columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(table), CHUNK):
        stop = min(start + CHUNK, len(table))
        parts = [table.values(name, start, stop) for name in table.columns]
        yield from zip(*parts, *(_plain(values[start:stop]) for values in columns.values()), strict=True)


def _write_csv(file: BinaryIO, table: Table, columns: Mapping[str, Sequence[Any]], separator: str = ",") -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # Ends of line as RFC 4180 has them; with "\n" Python before 3.13 leaves a lone "\r" inside a value unquoted.
    writer = csv.writer(text, delimiter=separator, lineterminator="\r\n")
    writer.writerow([*table.columns, *columns])
    for row in _rows(table, columns):
        writer.writerow([_cell(value) for value in row])
    text.detach()


def _write_jsonl(file: BinaryIO, table: Table, columns: Mapping[str, Sequence[Any]]) -> None:
    names = [*table.columns, *columns]
    for row in _rows(table, columns):
        values = {name: None if is_missing(value) else value for name, value in zip(names, row, strict=True)}
        file.write(json.dumps(values, ensure_ascii=False, default=_as_json).encode() + b"\n")


def _write_parquet(file: BinaryIO, table: Table, columns: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow.parquet as parquet

    arrow = table.whole()
    for name, values in columns.items():
        arrow = arrow.append_column(name, pa.chunked_array([column_array(_plain(values[:]))]))
    parquet.write_table(arrow, file)


WRITERS: dict[str, Callable[[BinaryIO, Table, Mapping[str, Sequence[Any]]], None]] = {
    ".csv": _write_csv,
    ".tsv": partial(_write_csv, separator="\t"),
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def _cell(value: Any) -> Any:
    if is_missing(value):
        return ""
    if isinstance(value, (list, dict, tuple)):
        return json.dumps(value, ensure_ascii=False, default=_as_json)
    return value.hex() if isinstance(value, bytes) else value


def _as_json(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """The value with numpy's scalars and arrays, at any depth, as the Python objects that json can write."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(entry) for entry in value]
    return value
