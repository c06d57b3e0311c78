"""Parquet, Arrow and Feather files, and the folders that `datasets` saves, read without importing `datasets`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.spill import Batches
from adapterhub_lite.data.table import Table, check_names
from adapterhub_lite.errors import DataError

IPC_FILE = b"ARROW1"
"""First bytes of an Arrow file that has a footer; a stream has neither."""


def read_parquet(path: Path, source: str, sha256: str, files: FileOptions) -> Table:
    """Read a Parquet file, of which there is nothing to say beside its name."""
    import pyarrow.parquet as parquet  # 40 ms that a CSV need not pay

    batches = Batches()
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            check_names(schema.names, f"{source}:")
            for batch in file.iter_batches(_rows_at_once(file.metadata)):
                batches.add(with_plain_types(batch))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: not a readable Parquet file ({_one_line(error)}); write it again") from error
    return _table(source, batches, schema, sha256)


def read_arrow(path: Path, source: str, sha256: str, files: FileOptions) -> Table:
    """Read an Arrow IPC file or stream (.arrow, .feather), of which there is nothing to say beside its name."""
    batches = Batches()
    return _table(source, batches, _ipc(path, source, batches), sha256)


def read_saved_dataset(folder: Path, source: str) -> Table:
    """Read a folder written by `datasets.Dataset.save_to_disk`."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{source}: state.json is not what datasets writes; call save_to_disk again") from error
    total = hashlib.sha256()
    batches, schema = Batches(), None
    for name in names:
        path = folder / name
        if path.parent != folder or not path.is_file():  # a name from a file leads nowhere else
            raise DataError(f"{source}: state.json names {name!r}, which is not in the folder; copy the whole folder")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
        schema = _ipc(path, str(path), batches)
    if schema is None:
        raise DataError(f"{source}: has no rows; save a dataset that has some")
    return _table(source, batches, schema, total.hexdigest())


def _ipc(path: Path, source: str, batches: Batches) -> pa.Schema:
    """Add the batches of a file to `batches` and return their schema."""
    try:
        with pa.OSFile(str(path)) as file:
            if file.read(len(IPC_FILE)) == IPC_FILE:
                file.seek(0)
                reader = pa.ipc.open_file(file)
                check_names(reader.schema.names, f"{source}:")
                for number in range(reader.num_record_batches):
                    batches.add(with_plain_types(reader.get_batch(number)))
                return reader.schema
            file.seek(0)  # `datasets` writes streams, which have no footer
            stream = pa.ipc.open_stream(file)
            check_names(stream.schema.names, f"{source}:")
            for batch in stream:
                batches.add(with_plain_types(batch))
            return stream.schema
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: not a readable Arrow file ({_one_line(error)}); write it again") from error


def _table(source: str, batches: Batches, schema: pa.Schema, sha256: str) -> Table:
    kept, mapped = batches.finish()
    arrow = pa.Table.from_batches(kept, with_plain_types(schema.empty_table()).schema)
    check_columns(arrow, source)
    return Table(source, arrow, sha256, mapped=mapped)


def _rows_at_once(metadata: Any) -> int:
    """Rows of a Parquet file that take some 16 MB together: those of a file of images are large."""
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return max(1, min(65_536, (16 << 20) * metadata.num_rows // max(size, 1)))


def with_plain_types(part: Any) -> Any:
    """A batch or a table in types that all of Arrow can compute with.

    Values replace dictionaries, which every batch would carry whole, and plain strings replace string views, which polars
    writes and `take` does not know.
    """
    schema = pa.schema([field.with_type(_plain_type(field.type)) for field in part.schema], part.schema.metadata)
    if schema.equals(part.schema):
        return part
    if isinstance(part, pa.Table):
        return pa.Table.from_batches([with_plain_types(batch) for batch in part.to_batches()], schema)
    columns = [_values(column).cast(field.type) for column, field in zip(part.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _values(column: pa.Array) -> pa.Array:
    """A column's values; a dictionary of string views is cast first, or Arrow cannot look its values up."""
    if not isinstance(column, pa.DictionaryArray):
        return column
    dictionary = column.dictionary.cast(_plain_type(column.dictionary.type))
    return pa.DictionaryArray.from_arrays(column.indices, dictionary).dictionary_decode()


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    return kind


def check_columns(arrow: pa.Table, source: str) -> None:
    """Check that a table has rows, and that no two of its columns have one name.

    Raises:
        DataError: naming `source`.
    """
    check_names(arrow.column_names, f"{source}:")
    if not arrow.column_names or not arrow.num_rows:
        raise DataError(f"{source}: has no rows; give a table that has some")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
