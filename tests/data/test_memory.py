"""Tables in memory, and the folders that `datasets` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.errors import DataError
from tests.reading import load_data


def test_the_same_rows_hash_the_same_whatever_holds_them() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is an optional input")
    columns: dict[str, list[Any]] = {"text": ["a", "b", "c"], "n": [1, 2, 3]}
    rows = [{"text": text, "n": n} for text, n in zip(columns["text"], columns["n"], strict=True)]
    chunked = pa.concat_tables([pa.table(columns).slice(0, 1), pa.table(columns).slice(1)])
    tables = [read_table(source) for source in (columns, rows, pandas.DataFrame(columns), chunked)]
    assert [table.source for table in tables] == [
        "<dict of columns>",
        "<list of rows>",
        "<pandas DataFrame>",
        "<pyarrow Table>",
    ]
    assert len({table.sha256 for table in tables}) == 1
    assert read_table({**columns, "n": [1, 2, 4]}).sha256 != tables[0].sha256
    assert read_table(tables[0]) is tables[0]


def test_a_frame_with_missing_and_mixed_values() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is an optional input")
    frame = pandas.DataFrame(
        {"n": [1, None, 3], "mixed": [1, "x", None], "lists": [[1], [2, 3], None]}, index=[7, 8, 9]
    )
    table = read_table(frame)
    assert table.columns == ("n", "mixed", "lists")
    assert table.column("n") == [1.0, None, 3.0]
    assert table.column("mixed") == [1, "x", None]
    assert table.column("lists") == [[1], [2, 3], None]


def test_float_labels_of_a_frame_are_the_integers_they_were() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is an optional input")
    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": [10.0, 9.0, 10.0]})
    assert load_data(frame, "text-classification").labels == ("9", "10")
    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": [1, None, 2]})
    with pytest.raises(DataError, match=r"<pandas DataFrame>, row 2, column 'label': label is missing"):
        load_data(frame, "text-classification")


class Speaks:
    """What polars and DuckDB hand out: nothing but Arrow's C stream."""

    def __init__(self, table: pa.Table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """As the PyCapsule interface asks."""
        return self.table.__arrow_c_stream__(requested_schema)


VIEWS = pa.table(
    {
        "text": pa.array(["a b", "c d", "e f"] * 2).cast(pa.string_view()),
        "label": pa.DictionaryArray.from_arrays(
            pa.array([0, 1, 0] * 2, pa.uint32()), pa.array(["x", "y"]).cast(pa.string_view())
        ),
        "tags": pa.array([["p"], [], ["q", "r"]] * 2, pa.list_(pa.string_view())),
    }
)


@pytest.mark.parametrize("kind", ["table", "stream", "file", "parquet"])
def test_views_and_categories_of_polars(tmp_path: Path, kind: str) -> None:
    source: Any = {"table": VIEWS, "stream": Speaks(VIEWS)}.get(kind, tmp_path / f"rows.{kind}")
    if kind == "file":
        source = tmp_path / "rows.arrow"
        with pa.ipc.new_file(source, VIEWS.schema) as file:
            file.write_table(VIEWS)
    elif kind == "parquet":
        pq.write_table(VIEWS.set_column(1, "label", pa.array(["x", "y", "x"] * 2).cast(pa.string_view())), source)
    data = load_data(source, "text-classification")
    assert (list(data.inputs), data.labels) == (["a b", "c d", "e f"] * 2, ("x", "y"))
    assert list(data.select([4, 5]).inputs) == ["c d", "e f"]
    table = read_table(source).take([2, 1])
    assert table.column("tags") == [["q", "r"], []]
    assert table.column("label") == ["x", "y"]


def test_numpy_columns() -> None:
    table = read_table({"text": np.array(["a", "b"]), "label": np.array([0, 1])})
    assert table.column("text") == ["a", "b"]
    assert table.column("label") == [0, 1]


def test_datasets_objects_and_folders(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is an optional input")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["zebra", "ant", "bee"])}
    )
    whole = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [0, 1, 0, 1]}, features=features)
    part = whole.select([3, 2, 1])
    loaded = load_data(part, "text-classification")
    assert list(loaded.inputs) == ["d", "c", "b"]
    assert loaded.labels == ("zebra", "ant")  # in the order declared, without the class that has no row
    assert loaded.targets == (1, 0, 1)
    assert loaded.notes == (
        "column 'label': 1 declared class without rows: bee",
        "column 'label': 1 class with a single row: zebra",
    )
    part.save_to_disk(str(tmp_path / "saved"))
    saved = load_data(tmp_path / "saved", "text-classification")
    assert (list(saved.inputs), saved.labels, saved.targets) == (list(loaded.inputs), loaded.labels, loaded.targets)
    whole.to_parquet(str(tmp_path / "a.parquet"))
    assert load_data(tmp_path / "a.parquet", "text-classification").labels == ("zebra", "ant")
    splits = datasets.DatasetDict({"train": whole, "test": part})
    with pytest.raises(DataError, match=r"holds several splits \(train, test\); give one of them"):
        read_table(splits)
    splits.save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(DataError, match=r"holds several splits \(test, train\); give one, such as '.*splits/train'"):
        read_table(tmp_path / "splits")
    with pytest.raises(DataError, match="has no length"):
        read_table(whole.to_iterable_dataset())
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="which is not in the folder"):
        read_table(tmp_path / "saved")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "<int>: not something rows can be read from"),
        ([], "<list of rows>: has no rows"),
        ({}, "<dict of columns>: has no rows"),
        ({"a": []}, "<dict of columns>: has no rows"),
        ([{"a": 1}, "b"], "<list of rows>, row 2: is a str, not a dict"),
        ([{"a": 1}, {2: 1}], "<list of rows>, row 2: column name 2 is a int"),
        ([{"a": 1}, {"a": object()}], "<list of rows>, row 2, column 'a': holds a object, which a table cannot"),
        ({"a": [1], "b": [1, 2]}, "columns have different lengths ('a' 1, 'b' 2)"),
        ({"a": "text"}, "column 'a': is a str; give a list of values"),
        ({"a": ["x", "\ud83d"]}, "<dict of columns>, row 2, column 'a': holds half of a surrogate"),
        (pa.table([[1], [2]], names=["a", "a"]), "<pyarrow Table>: names column 'a' more than once"),
    ],
)
def test_bad_objects(source: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_table(source)
    assert message in str(caught.value)
