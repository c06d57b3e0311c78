"""From whatever the user gives, a path or an object, to one `Table`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from adapterhub_lite.data.files.columnar import read_arrow, read_parquet, read_saved_dataset
from adapterhub_lite.data.files.delimited import read_delimited
from adapterhub_lite.data.files.in_memory import read_object
from adapterhub_lite.data.files.json_files import read_json, read_json_lines
from adapterhub_lite.data.files.options import DEFAULT, FileOptions
from adapterhub_lite.data.files.references import parse_reference
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import AdapterHubError, DataError
from adapterhub_lite.names import check_choice, one_line

READERS: dict[str, Callable[[Path, str, str, FileOptions], Table]] = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "jsonl": read_json_lines,
    "ndjson": read_json_lines,
    "json": read_json,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "feather": read_arrow,
}
"""What reads a file, by its format, which its suffix says."""
SUFFIXES = tuple(f".{name}" for name in READERS)

# What to do about the files people have that hold tables but are not read here.
ELSEWHERE = {
    ".xlsx": "save the sheet as CSV (UTF-8)",
    ".xls": "save the sheet as CSV (UTF-8)",
    ".gz": "unpack it first",
    ".zip": "unpack it first",
    ".zst": "unpack it first",
    ".pkl": "pickles run code when opened; write it as Parquet or CSV",
    ".txt": "say what it is: --format csv or --format tsv (and --no-header where the first line names no columns)",
}


def read_table(source: Any, files: FileOptions = DEFAULT) -> Table:
    """Read rows from a file, a `datasets` folder, or a table in memory.

    Files: .csv, .tsv, .jsonl, .ndjson, .json (an array of rows, or several such splits), .parquet, .arrow and .feather. In
    memory: a pandas DataFrame, a `datasets.Dataset`, a pyarrow Table, a list of dicts, a dict of lists.

    Args:
        source: The file, folder or object.
        files: What is said of the file beside its name.

    Raises:
        DataError: it cannot be read; names the file, the row and the line.
        ConfigError: an option that does not go with it.
    """
    if isinstance(source, Table):
        return source
    if not isinstance(source, (str, os.PathLike)):
        files.check("data in memory", "arrow")
        return read_object(source)
    name = os.fspath(source)
    path = existing(parse_reference(name)[0])
    if path.is_dir():
        return _read_folder(path, name, files)
    if files.format is not None:
        check_choice("format", files.format, tuple(READERS))
    kind = files.format or path.suffix.lower().removeprefix(".")
    files.check(name, kind)
    if kind not in READERS:
        advice = ELSEWHERE.get(path.suffix.lower(), "give one of " + " ".join(SUFFIXES))
        raise DataError(f"{name}: files of type {path.suffix or '(no suffix)'} are not read; {advice}")
    return READERS[kind](path, name, file_sha256(path, name), files)


def read_foreign(source: str | os.PathLike[str], read: Callable[[Path], Any]) -> Table:
    """Read a file by a function that gives its rows as `read_table` takes them in memory.

    Raises:
        DataError: what the function raises, or that it gives no rows; names the file.
    """
    name = os.fspath(source)
    path = existing(name)
    sha256 = file_sha256(path, name)
    try:
        rows = read(path)
        table = rows if isinstance(rows, Table) else read_object(rows)
    except AdapterHubError as error:
        raise DataError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
    except Exception as error:
        raise DataError(f"{name}: its reader failed: {one_line(error)}") from error
    return replace(table, source=name, sha256=sha256)


def existing(name: str) -> Path:
    """The path, if something is there; otherwise an error that offers the nearest name in the folder."""
    path = Path(name).expanduser()
    try:
        if path.exists():
            return path
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check its permissions") from error
    if names is None:
        raise DataError(f"{name}: no such file, nor a folder {str(path.parent)!r}; check the path")
    near = get_close_matches(path.name, names, n=1)
    hint = f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"
    raise DataError(f"{name}: no such file; {hint}")


def file_sha256(path: Path, name: str) -> str:
    """The SHA-256 of a file's bytes; an unreadable or empty file is an error."""
    try:
        with path.open("rb") as file:
            if not file.peek(1):
                raise DataError(f"{name}: is empty; give a file with rows")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error}); check its permissions") from error


def _read_folder(path: Path, name: str, files: FileOptions) -> Table:
    files.check(name, "arrow")
    if (path / "state.json").is_file():
        return read_saved_dataset(path, name)
    if (path / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in path.iterdir() if (entry / "state.json").is_file())
        raise DataError(
            f"{name}: holds several splits ({', '.join(splits)}); give one, such as {str(path / 'train')!r}"
        )
    tables = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
    hint = f"give a file in it: {', '.join(tables[:5])}" if tables else "it holds no file that can be read as a table"
    raise DataError(f"{name}: is a folder; {hint}")
