"""Tables of thousands of columns: read in a time that grows with them and no faster, or refused at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.errors import DataError

SECONDS = 4
"""Of the processor, on a busy machine; all of these take under one on an idle one, and took 4 to 33."""


def wide(folder: Path, kind: str, columns: int, rows: int = 3) -> Any:
    names = [f"c{i}" for i in range(columns)]
    path = folder / f"wide.{kind}"
    row = dict.fromkeys(names, "1")
    table = pa.table({name: ["1"] * rows for name in names}) if kind in ("parquet", "arrow") else None
    if kind == "csv":
        path.write_text("\n".join([",".join(names)] + [",".join("1" * columns)] * rows))
    elif kind == "jsonl":
        path.write_text("\n".join([json.dumps(row)] * rows))
    elif kind == "json":
        path.write_text(json.dumps([row] * rows))
    elif kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind == "dict":
        return {name: ["1"] * rows for name in names}
    elif kind == "rows":
        return [row] * rows
    else:
        return pd.DataFrame({name: ["1"] * rows for name in names})
    return path


KINDS = ["csv", "jsonl", "json", "parquet", "arrow", "dict", "rows", "frame"]


@pytest.mark.parametrize("kind", KINDS)
def test_eight_thousand_columns(kind: str, tmp_path: Path) -> None:
    source = wide(tmp_path, kind, 8000)
    started = time.process_time()
    table = read_table(source)
    assert time.process_time() - started < SECONDS
    assert (len(table), len(table.columns)) == (3, 8000)
    assert table.column("c7999") == ["1"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_more_columns_than_are_read(kind: str, tmp_path: Path) -> None:
    source = wide(tmp_path, kind, 10_001, rows=1)
    started = time.process_time()
    with pytest.raises(DataError, match=r"has 10,001 columns where at most 10,000 are read; keep those"):
        read_table(source)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("kind", ["jsonl", "json", "rows"])
def test_rows_with_keys_of_their_own(kind: str, tmp_path: Path) -> None:
    rows = [{f"k{i}": 1, "text": "a"} for i in range(4000)]
    path = tmp_path / f"keys.{kind}"
    if kind != "rows":
        path.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    started = time.process_time()
    with pytest.raises(DataError, match=r"row 500.*501 different ones, and none has more than 2; a key is a column"):
        read_table(rows if kind == "rows" else path)
    assert time.process_time() - started < SECONDS


def test_rows_that_have_some_of_many_keys_are_read() -> None:
    rows = [{f"k{j}": j for j in range(i % 7, 900, 2)} for i in range(20)]
    table = read_table(rows)
    assert len(table.columns) == 900
    assert table.column("k3") == [row.get("k3") for row in rows]


@pytest.mark.parametrize("name", ["c19999", "c0"])
def test_a_key_twice_in_a_large_object(name: str, tmp_path: Path) -> None:
    keys = ",".join(f'"c{i}":1' for i in range(20_000))
    (tmp_path / "twice.jsonl").write_text(f'{{{keys},"{name}":2}}')
    started = time.process_time()
    with pytest.raises(DataError, match=rf"key '{name}' appears twice in one object"):
        read_table(tmp_path / "twice.jsonl")
    assert time.process_time() - started < SECONDS / 2
