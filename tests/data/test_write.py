"""Writing predictions beside the input's columns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.write import new_names, write_rows
from adapterhub_lite.errors import ConfigError, StorageError

ROWS: list[dict[str, Any]] = [
    {"text": 'a "quoted"\r\ntext, with; all\tof it', "n": 1, "list": [1, {"k": "ü"}]},
    {"text": "lone \r return", "n": None, "list": None},
    {"text": "", "n": 3, "list": []},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_typed_files_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    extra: dict[str, Any] = {"label": ["x", "y", "z"], "score": np.array([0.5, 0.25, 1.0], dtype=np.float32)}
    write_rows(path, read_table(ROWS), extra)
    back = read_table(path)
    assert back.columns == ("text", "n", "list", "label", "score")
    for name in ("text", "n", "list"):
        assert back.column(name) == [row[name] for row in ROWS]
    assert back.column("score") == [0.5, 0.25, 1.0]
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_text_files_come_back_as_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_rows(path, read_table(ROWS), {"label": ["x", "y", "z"], "scores": [{"x": 1.0}, None, [2]]})
    back = read_table(path)
    assert back.column("text") == [row["text"] for row in ROWS]
    assert back.column("n") == ["1", "", "3"]
    assert back.column("list") == ['[1, {"k": "ü"}]', "", "[]"]
    assert back.column("scores") == ['{"x": 1.0}', "", "[2]"]


def test_many_rows_of_a_selection(tmp_path: Path) -> None:
    table = read_table({"n": list(range(10_000))}).take(range(9_999, -1, -1))
    write_rows(tmp_path / "out.csv", table, {"m": range(10_000)})
    back = read_table(tmp_path / "out.csv")
    assert back.column("n") == [str(n) for n in range(9_999, -1, -1)]
    assert back.column("m") == [str(n) for n in range(10_000)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_numpy_values_at_any_depth_are_written_as_numbers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    scores = [{"a": np.float32(0.5), "b": [np.int64(3)]}, np.array([1, 2]), None]
    write_rows(path, read_table(ROWS), {"scores": scores})
    assert read_table(path).column("scores") == [{"a": 0.5, "b": [3]}, [1, 2], None]


def test_names_that_clash() -> None:
    assert new_names(["text"], ["label", "score"]) == {"label": "label", "score": "score"}
    assert new_names(["text", "label"], ["label"]) == {"label": "predicted_label"}
    assert new_names(["label", "predicted_label"], ["label"]) == {"label": "label_2"}
    assert new_names(["label"], ["label", "predicted_label"]) == {
        "label": "label_2",
        "predicted_label": "predicted_label",
    }
    assert new_names(["label", "predicted_label", "label_2"], ["label"]) == {"label": "label_3"}


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"out\.csv: could not be written \(No space left on device\)"):
        write_rows(path, read_table(ROWS), {})
    assert path.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    table = read_table(ROWS)
    with pytest.raises(StorageError, match="No such file or directory"):
        write_rows(tmp_path / "absent" / "out.csv", table, {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Not a directory"):
        write_rows(tmp_path / "file" / "out.csv", table, {})
    with pytest.raises(ConfigError, match=r"cannot write files of type \.xlsx; use \.csv \.tsv \.jsonl \.parquet"):
        write_rows(tmp_path / "out.xlsx", table, {})
    with pytest.raises(ValueError, match="'label' has 1 values for 3 rows"):
        write_rows(tmp_path / "out.csv", table, {"label": ["x"]})
