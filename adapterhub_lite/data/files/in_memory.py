"""Tables that are already in memory: data frames, `datasets` objects, other Arrow tables, lists of rows, dicts of columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from adapterhub_lite.data.arrays import RowBuilder, checked_array
from adapterhub_lite.data.files.columnar import check_columns, with_plain_types
from adapterhub_lite.data.table import HUGGINGFACE_METADATA, Table, check_names, digest, place
from adapterhub_lite.errors import DataError


def read_object(source: Any) -> Table:
    """Read a table given as a Python object; pandas and `datasets` are recognised without importing them."""
    kind = type(source)
    package = kind.__module__.split(".")[0]
    if isinstance(source, pa.Table):
        name = "<pyarrow Table>"
        arrow = source
    elif package == "pandas" and hasattr(source, "columns"):
        name = "<pandas DataFrame>"
        arrow = _frame(source, name)
    elif package == "datasets":
        name = f"<datasets {kind.__name__}>"
        arrow = _hub_dataset(source, name)
    elif hasattr(source, "__arrow_c_stream__"):  # polars, DuckDB and others that speak Arrow
        name = f"<{package} {kind.__name__}>"
        arrow = pa.table(source)
    elif isinstance(source, Mapping):
        name = "<dict of columns>"
        arrow = _columns(source, name)
    elif isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        name = "<list of rows>"
        arrow = _rows(source, name)
    else:
        raise DataError(
            f"<{kind.__name__}>: not something rows can be read from; "
            "give a path, a pandas or polars DataFrame, a datasets.Dataset, a list of dicts or a dict of lists"
        )
    arrow = with_plain_types(arrow)
    check_columns(arrow, name)
    return Table(name, arrow, digest(arrow))


def _frame(frame: Any, name: str) -> pa.Table:
    names = list(frame.columns)
    _check_names(names, name)
    columns = {}
    for index, column in enumerate(names):
        series = frame.iloc[:, index]
        try:
            columns[column] = pa.array(series, from_pandas=True)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            columns[column] = _column(series.tolist(), name, column)
    return pa.table(columns)


def _hub_dataset(dataset: Any, name: str) -> pa.Table:
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(str, dataset))
        raise DataError(
            f"{name}: holds several splits ({splits}); give one of them, such as data[{next(iter(dataset))!r}]"
        )
    if not hasattr(dataset, "with_format") or not hasattr(dataset, "__len__"):
        raise DataError(f"{name}: has no length and cannot be split or shuffled; give a datasets.Dataset")
    arrow = dataset.with_format("arrow")[:]
    features = (dataset.features.arrow_schema.metadata or {}).get(HUGGINGFACE_METADATA)
    return arrow if features is None else arrow.replace_schema_metadata({HUGGINGFACE_METADATA: features})


def _columns(columns: Mapping[Any, Any], name: str) -> pa.Table:
    _check_names(list(columns), name)
    lengths = {}
    for column, values in columns.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise DataError(f"{name}, column {column!r}: is a {type(values).__name__}; give a list of values")
        lengths[column] = len(values)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{column!r} {length}" for column, length in list(lengths.items())[:8])
        raise DataError(f"{name}: columns have different lengths ({shown}); give one value a row")
    lists = {column: values.tolist() if hasattr(values, "tolist") else values for column, values in columns.items()}
    return pa.table({column: _column(list(values), name, column) for column, values in lists.items()})


def _rows(rows: Sequence[Any], name: str) -> pa.Table:
    builder = RowBuilder(name, room=sys.maxsize)  # the rows are in memory anyway
    for index, row in enumerate(rows):
        where = place(name, index)
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: is a {type(row).__name__}, not a dict; give one dict a row, column to value")
        if not row:
            raise DataError(f"{where}: is an empty dict; give it values or remove it")
        _check_names(list(row), where)
        builder.add(row, 0)
    return builder.finish()


def _column(values: list[Any], name: str, column: str) -> pa.Array:
    return checked_array(values, lambda index: place(name, index, None, column))


def _check_names(names: list[Any], where: str) -> None:
    for column in names:
        if not isinstance(column, str):
            raise DataError(f"{where}: column name {column!r} is a {type(column).__name__}; name columns with text")
    check_names(names, f"{where}:")
