"""Tables of series, wide and long, and windows; against naive versions and the turbofan data."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from series_read import names_of, same

from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.splits import split
from adapterhub_lite.data.table import Table
from adapterhub_lite.data.write import write_rows
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_series.data import (
    Windows,
    channels_of,
    columns_there,
    groups_of,
    read_classification,
    read_regression,
)


def test_wide_numbered_columns(write: Callable[[str, str], Path]) -> None:
    path = write(
        "x.csv", "id,t0,t10,t1,t2,t3,t4,t5,t6,t7,t8,t9,class\ne,0,10,1,2,3,4,5,6,7,8,9,u\nf,5,,5,5,5,5,5,5,5,,,v\n"
    )
    dataset = read_classification(path)
    assert same(dataset.inputs, [np.arange(11)[:, None], np.full((8, 1), 5)])
    assert names_of(dataset) == ["u", "v"]
    assert dict(dataset.columns) == {"label": "class", "series": "id", "channels": "t"}
    assert dataset.notes[:2] == (
        "read as a table with a row a series",
        "1 series end in missing values and is taken as shorter than 11 steps",
    )


def test_wide_families_are_channels(write: Callable[[str, str], Path]) -> None:
    path = write("x.csv", "y,u_1,u_2,v_1,v_2,about\n1.5,1,2,3,4,hm\n2.5,?,6,7,8,ho\n")
    dataset = read_regression(path)
    assert same(dataset.inputs, [[[1, 3], [2, 4]], [[np.nan, 7], [6, 8]]])
    assert dataset.targets == (1.5, 2.5)
    assert channels_of(dataset) == ("u", "v")
    assert "1 column not used: about" in dataset.notes
    assert same(read_regression(path, columns={"channels": "v"}).inputs, [[[3], [4]], [[7], [8]]])
    with pytest.raises(DataError, match=r"has no column 'w' \(for 'channels'\), nor columns numbered after it"):
        read_regression(path, columns={"channels": "v,w"})
    with pytest.raises(DataError, match=r"families of numbered columns have different lengths \('u' 2, 'v' 3\)"):
        read_regression(write("y.csv", "y,u1,u2,v1,v2,v3\n1,1,2,3,4,5\n2,1,2,3,4,5\n"))
    with pytest.raises(DataError, match="the numbered columns of 'u' go from 2 to 4"):
        read_regression(write("z.csv", "y,u1,u2,u4\n1,1,2,3\n2,1,2,3\n"))


def test_lists(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    rows = [{"a": [1, 2, None], "b": [4, 5, 6], "label": "x"}, {"a": [7.5, 8], "b": [1, 2], "label": "y"}]
    expected = [[[1, 4], [2, 5], [np.nan, 6]], [[7.5, 1], [8, 2]]]
    text = "\n".join(map(json.dumps, rows))
    as_csv = tmp_path / "x.csv"
    write_rows(as_csv, read_table(rows), {})
    parquet = tmp_path / "x.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), parquet)
    for source in (rows, write("x.jsonl", text), as_csv, parquet, pa.Table.from_pylist(rows)):
        dataset = read_classification(source)
        assert same(dataset.inputs, expected)
        assert channels_of(dataset) == ("a", "b")
        assert names_of(dataset) == ["x", "y"]
    nested = [{"s": [[1, 4], [2, 5], [None, 6]], "label": "x"}, {"s": [[7.5, 1], [8, 2]], "label": "y"}]
    dataset = read_classification(nested)
    assert same(dataset.inputs, expected)
    assert channels_of(dataset) == ("s_1", "s_2")


def test_frames_and_hub_datasets() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"t0": [1, 2], "t1": [3, None], "t2": [5.0, 6.0], "label": ["u", "v"]})
    dataset = read_classification(frame)
    assert same(dataset.inputs, [[[1], [3], [5]], [[2], [np.nan], [6]]])
    datasets = pytest.importorskip("datasets")
    hub = datasets.Dataset.from_dict({"values": [[1.0, 2.0], [3.0, 4.0]], "label": [0, 1]})
    assert same(read_classification(hub).inputs, [[[1], [2]], [[3], [4]]])


LONG = (
    "unit,cycle,p,q,place,label\nb,2,3,30,here,u\na,1,5,50,here,v\nb,1,1,10,there,u\na,2,6,,here,v\nb,4,4,40,here,u\n"
)


def test_long(write: Callable[[str, str], Path]) -> None:
    dataset = read_classification(write("x.csv", LONG))
    assert same(dataset.inputs, [[[1, 10], [3, 30], [4, 40]], [[5, 50], [6, np.nan]]])
    assert names_of(dataset) == ["u", "v"]
    assert dict(dataset.columns) == {"label": "label", "series": "unit", "time": "cycle", "channels": "p,q"}
    assert dataset.table is not None
    assert dataset.table.column("unit") == ["b", "a"]
    assert dataset.notes[0] == (
        "read as a table with a row a step: rows with the same 'unit' are one series, in order of 'cycle'"
    )
    assert "1 column not used: place" in dataset.notes
    assert "column 'cycle': rows of 1 series sorted by time" in dataset.notes
    assert any(note.startswith("time steps are uneven in 1 series (between 1 and 2)") for note in dataset.notes)


def test_long_in_the_order_of_the_file(write: Callable[[str, str], Path]) -> None:
    path = write("x.csv", "id,p,label\na,2,u\na,1,u\nb,3,v\nb,4,v\na,0,u\n")
    dataset = read_classification(path)
    assert same(dataset.inputs, [[[2], [1], [0]], [[3], [4]]])
    assert any("some series go on after rows of another (1 times)" in note for note in dataset.notes)


def test_dates_as_time() -> None:
    days = [datetime.datetime(2024, 1, day) for day in (3, 1, 2, 1)]
    rows = {"id": [1, 1, 1, 2], "label": ["u", "u", "u", "v"], "p": [3.0, 1.0, 2.0, 1.0]}
    more = {"id": [*rows["id"], 2], "label": [*rows["label"], "v"], "p": [*rows["p"], 2.0]}
    stamps = [*days, datetime.datetime(2024, 1, 2)]
    for times in (stamps, [stamp.isoformat(" ") for stamp in stamps], [stamp.isoformat() + "Z" for stamp in stamps]):
        assert same(
            read_classification({**more, "when": times}, columns={"time": "when"}).inputs, [[[1], [2], [3]], [[1], [2]]]
        )
    with pytest.raises(DataError, match=r"row 4, column 'when': time 'noon' is neither a number nor an ISO 8601"):
        read_classification({**more, "when": [*map(str, days[:3]), "noon", "2024-01-02"]}, columns={"time": "when"})


BAD_LONG = {
    "same time": (LONG.replace("a,2,6", "a,1,6"), r"row 4 \(line 5\), column 'cycle': time '1' of series 'a' is also that"),
    "two labels": (LONG.replace("here,u\n", "here,v\n", 1), r"row 1 \(line 2\), column 'label': is 'v', and 'u' in row 3"),
    "no number": (LONG.replace("40,here", "x,here"), r"row 5 \(line 6\), column 'q': 'x' is not a number"),
    "decimal comma": (LONG.replace("40,here", '"4,5",here'), r"row 5 \(line 6\), column 'q': '4,5' is not a number; write 1.5"),
    "infinite": (LONG.replace("40,here", "inf,here"), r"row 5 \(line 6\), column 'q': 'inf' is infinite"),
    "no label": (LONG.replace("here,v", "here,"), r"row 2 \(line 3\), column 'label': label is missing"),
    "no id": (LONG.replace("b,4", " ,4"), r"row 5 \(line 6\), column 'unit': the id of the series is missing"),
    "no time": (LONG.replace("b,4", "b,"), r"row 5 \(line 6\), column 'cycle': time is missing"),
    "one step": (LONG + "c,1,1,1,here,u\n", r"row 6 \(line 7\): its series has 1 step, and needs 2"),
    "all missing": (LONG + "c,1,,,here,u\nc,2,?,NA,here,u\n", r"row 6 \(line 7\): all values of its series are missing"),
    "one class": (LONG.replace(",v\n", ",u\n"), "every row has label 'u'; a classifier needs 2 classes"),
    "no id column": (LONG.replace("unit", "which"), r"a row is one time step, .* --column series=NAME .*which"),
    "nothing": ("label,about\nu,x\nv,y\n", "cannot tell where the series are; give a row a time step"),
    "no answer": (LONG.replace("label", "remark"), "cannot tell which column is the label; name one with --column label=NAME"),
    "only text": ("unit,cycle,about,label\na,1,x,u\na,2,y,u\n", "no column of numbers is left for the channels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LONG)
def test_bad_long_tables(write: Callable[[str, str], Path], case: str) -> None:
    text, message = BAD_LONG[case]
    with pytest.raises(DataError, match=message):
        read_classification(write("bad.csv", text))


def test_bad_lists() -> None:
    good = {"s": [1, 2], "label": "x"}
    for row, message in (
        ({"s": [1, "x"], "label": "y"}, "row 2, column 's', step 2: 'x' is not a number"),
        ({"s": [1, 1e40], "label": "y"}, r"row 2, column 's', step 2: '1e\+40' is infinite or too large"),
        ({"s": None, "label": "y"}, "row 2, column 's': has no list of values"),
        ({"s": [], "label": "y"}, "row 2, column 's': has no list of values"),
        ({"s": [[1, 2], [3]], "label": "y"}, "row 2, column 's': its steps are not lists of as many numbers"),
        ({"s": [[1, 2], [3, 4]], "label": "y"}, "row 2, column 's': has 2 channels where row 1 has 1"),
        ({"s": [1, 2], "r": [1], "label": "y"}, "row 1, column 'r': has no list of values"),
    ):
        with pytest.raises(DataError, match=message):
            read_classification([good, row])
    with pytest.raises(DataError, match="row 2, column 'b': has 1 step where 'a' has 2"):
        read_classification([{"a": [1, 2], "b": [3, 4], "label": 0}, {"a": [1, 2], "b": [3], "label": 1}])


def test_roles_given(write: Callable[[str, str], Path]) -> None:
    path = write("x.csv", LONG)
    dataset = read_classification(path, columns={"series": "unit", "channels": "q", "label": "label", "group": "place"})
    assert channels_of(dataset) == ("q",)
    assert groups_of(dataset) == ["there", "here"]
    with pytest.raises(DataError, match=r"has no column 'r' \(for 'channels'\)"):
        read_classification(path, columns={"channels": "q,r"})
    with pytest.raises(DataError, match=r"has no column 'units' \(for 'series'\) \(did you mean 'unit'\?\)"):
        read_classification(path, columns={"series": "units"})
    with pytest.raises(ConfigError, match="'label' is given both as 'label' and among the channels"):
        read_classification(path, columns={"label": "label", "channels": "p,label"})
    with pytest.raises(ConfigError, match="'p' is named twice"):
        read_classification(path, columns={"channels": "p,p"})
    with pytest.raises(ConfigError, match="series-regression predicts a number and has none"):
        read_regression(path, labels=("u",))
    rows = [{"id": i // 2, "a, b": i, "c": i, "label": "uv"[i // 2]} for i in range(4)]
    quoted = read_classification(rows)
    assert quoted.columns["channels"] == '"a, b",c'
    assert channels_of(read_classification(rows, columns=quoted.columns)) == ("a, b", "c")


def test_columns_of_an_adapter_for_new_data(write: Callable[[str, str], Path]) -> None:
    recorded = dict(read_classification(write("x.csv", LONG)).columns)
    bare = write("y.csv", LONG.replace(",label", ",extra"))
    assert columns_there(recorded, bare) == {"series": "unit", "time": "cycle", "channels": "p,q"}
    assert columns_there(recorded, write("z.csv", "t0,t1\n1,2\n")) == {}
    assert columns_there(recorded, "some.ts") == {}
    lacking = write("w.csv", LONG.replace(",q,", ",other,"))
    with pytest.raises(DataError, match=r"has no column 'q' \(for 'channels'\)"):
        read_classification(lacking, columns=columns_there(recorded, lacking), require_labels=False)


# Windows


def naive(series: list[Any], length: int, stride: int, last_only: bool, short: str) -> list[tuple[int, int, Any]]:
    """(series, end, window) in the plainest way."""
    windows = []
    for index, values in enumerate(series):
        ends = [end for end in range(len(values)) if (len(values) - 1 - end) % stride == 0]
        made = []
        for end in ends:
            window = [values[step] for step in range(end - length + 1, end + 1) if step >= 0]
            if len(window) < length and short == "drop":
                continue
            if short == "keep" and len(window) < 2:
                continue
            if short == "pad":
                window = [values[0]] * (length - len(window)) + window
            made.append((index, end, window))
        windows += made[-1:] if last_only else made
    return windows


@pytest.mark.parametrize("seed", range(12))
def test_windows_against_the_naive_version(seed: int) -> None:
    random = np.random.default_rng(seed)
    series = [random.normal(size=(random.integers(1, 12), 2)).astype(np.float32) for _ in range(5)]
    rows = [
        {"id": f"s{index}", "time": int(t), "a": float(values[t, 0]), "b": float(values[t, 1]), "rul": index * 100 + int(t)}
        for index, values in enumerate(series)
        for t in random.permutation(len(values))
    ]  # fmt: skip
    for short in ("pad", "keep", "drop"):
        windows = Windows(int(random.integers(2, 6)), int(random.integers(1, 4)), bool(random.integers(2)), short)  # type: ignore[arg-type]
        expected = naive(series, windows.length, windows.stride, windows.last_only, short)
        if not expected:
            with pytest.raises(DataError, match="no series is long enough for a window of"):
                read_regression(rows, windows=windows)
            continue
        dataset = read_regression(rows, windows=windows)
        assert same(dataset.inputs, [window for _, _, window in expected])
        assert dataset.targets == tuple(float(index * 100 + end) for index, end, _ in expected)
        assert groups_of(dataset) == [f"s{index}" for index, _, _ in expected]


def test_windows_end_where_there_is_a_target() -> None:
    rows = {
        "id": [1] * 4 + [2] * 3,
        "time": [0, 1, 2, 3, 0, 1, 2],
        "p": [0.0, 1, 2, 3, 4, 5, None],
        "y": [None, 1, None, 3, 4, None, 6.0],
    }
    dataset = read_regression(rows, windows=Windows(2))
    assert same(dataset.inputs, [[[0], [1]], [[2], [3]], [[4], [4]], [[5], [np.nan]]])
    assert dataset.targets == (1.0, 3.0, 4.0, 6.0)
    assert "column 'y': no window ends at the 3 rows where it is missing" in dataset.notes
    assert dataset.table is not None
    assert dataset.table.where(1, "y") == "<dict of columns>, row 4, column 'y'"
    everything = read_regression(rows, windows=Windows(2), require_labels=False)
    assert (len(everything), everything.targets) == (7, None)
    empty = {**rows, "p": [None] * 3 + [3.0, 4, 5, 6], "y": [1.0] * 7}
    assert len(read_regression(empty, windows=Windows(2))) == 4  # windows without any value teach nothing
    ended = {**empty, "p": [3.0, None, None, None, 4, 5, 6]}
    assert len(read_regression(ended, windows=Windows(2))) == 5
    with pytest.raises(DataError, match="column 'y': every target is missing"):
        read_regression({**rows, "y": pa.nulls(7, pa.float64())}, windows=Windows(2))


def test_windows_of_one_series_and_of_labels() -> None:
    rows = {"time": [0, 1, 2, 3], "p": [1, 2, 3, 4], "activity": ["rest", "rest", "walk", "walk"]}
    dataset = read_classification(rows, windows=Windows(2, short="drop"))
    assert names_of(dataset) == ["rest", "walk", "walk"]
    assert groups_of(dataset) is None
    assert any("all windows are of one series, and overlap: hold out another file" in note for note in dataset.notes)


def test_windows_options() -> None:
    for given, message in (
        ({"length": 1}, "length 1 cannot be used"),
        ({"length": 2.0}, "length 2.0 cannot be used"),
        ({"length": 2, "stride": 0}, "stride 0 cannot be used"),
        ({"length": 2, "short": "cut"}, "short 'cut' is not known; use one of pad, keep, drop"),
    ):
        with pytest.raises(ConfigError, match=message):
            Windows(**given)


def test_windows_are_views() -> None:
    """100,000 windows of 30 steps and 24 channels, 288 MB if copied, hold on to no more than the data and its padding."""
    units, steps = 50, 2000
    count = units * steps
    table = {
        "unit": np.repeat(np.arange(units), steps),
        "cycle": np.tile(np.arange(steps), units),
        "y": np.zeros(count),
    }
    values = np.random.default_rng(0).random((24, count), dtype=np.float32)
    arrow = pa.table({**table, **{f"s{channel}": values[channel] for channel in range(24)}})
    dataset = read_regression(Table("memory", arrow, "0"), windows=Windows(30))
    assert len(dataset) == count
    owners = {}
    for window in dataset.inputs:
        assert window.base is not None
        owners[id(window.base)] = window.base
    assert sum(owner.nbytes for owner in owners.values()) <= (count + units * 29) * 24 * 4
    assert sum(map(sys.getsizeof, dataset.inputs)) < 20e6
    assert np.array_equal(dataset.inputs[70], values[:, 41:71].T)


# The turbofan data

TURBOFAN = ["unit", "cycle", *(f"setting_{i}" for i in range(1, 4)), *(f"sensor_{i}" for i in range(1, 22))]


@pytest.fixture(scope="module")
def turbofan(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FD001 as a long CSV: the columns named, and the cycles that are left."""
    rows = [line.split() for line in (shared / "data" / "cmapss" / "train_FD001.txt").read_text().splitlines()]
    last = {unit: int(cycle) for unit, cycle, *_ in rows}
    path = tmp_path_factory.mktemp("cmapss") / "fd001.csv"
    lines = [[*TURBOFAN, "RUL"], *([*row, str(last[row[0]] - int(row[1]))] for row in rows)]
    path.write_text("\n".join(map(",".join, lines)))
    return path


def test_turbofan(shared: Path, turbofan: Path) -> None:
    raw = np.loadtxt(shared / "data" / "cmapss" / "train_FD001.txt")
    life = {unit: raw[raw[:, 0] == unit, 1].max() for unit in np.unique(raw[:, 0])}
    dataset = read_regression(turbofan, windows=Windows(30))
    assert (len(dataset), len(set(groups_of(dataset) or ())), len(channels_of(dataset))) == (20631, 100, 24)
    assert dataset.targets == tuple(life[unit] - cycle for unit, cycle in raw[:, :2])
    for row in (0, 5, 29, 30, 191, 192, 12345, 20630):
        own = raw[(raw[:, 0] == raw[row, 0]) & (raw[:, 1] <= raw[row, 1])][-30:, 2:]
        expected = np.concatenate([np.repeat(own[:1], 30 - len(own), axis=0), own])
        assert np.array_equal(dataset.inputs[row], expected.astype(np.float32))
    # Columns that never change, as the source of the data lists them by position.
    names = [TURBOFAN[position] for position in (4, 5, 9, 14, 20, 22, 23)]
    assert f"the same value everywhere in 7 channels: {', '.join(names)}" in dataset.notes
    assert len(read_regression(turbofan, windows=Windows(30, short="drop"))) == 20631 - 100 * 29
    last = read_regression(turbofan, windows=Windows(30, last_only=True))
    assert last.targets == (0.0,) * 100


def test_turbofan_splits_by_engine(turbofan: Path) -> None:
    dataset = read_regression(turbofan, windows=Windows(30, stride=10))
    train, held_out = split(replace(dataset, targets=None), 0.2, seed=3, groups=groups_of(dataset))
    engines = set(groups_of(train) or ()), set(groups_of(held_out) or ())
    assert not engines[0] & engines[1]
    assert len(engines[0] | engines[1]) == 100
    assert 0.15 < len(held_out) / len(dataset) < 0.25


def test_turbofan_without_windows(turbofan: Path) -> None:
    with pytest.raises(
        DataError, match=r"row 2 \(line 3\), column 'RUL': is '190', and '191' in row 1 .* --window LENGTH"
    ):
        read_regression(turbofan)
    whole = read_regression(turbofan, require_labels=False)
    assert (len(whole), whole.targets, len(whole.inputs[0])) == (100, None, 192)


@pytest.mark.parametrize("seed", range(8))
def test_round_trips(seed: int, tmp_path: Path) -> None:
    """The same series written as .ts, wide lists and a long table come back the same."""
    random = np.random.default_rng(seed)
    channels = int(random.integers(1, 4))
    series = [random.normal(size=(random.integers(2, 9), channels)).astype(np.float32) for _ in range(6)]
    for values in series:
        values[random.random(values.shape) < 0.2] = np.nan
        values[0] = random.integers(-5, 5)
        values[-1] = 10.0 ** random.integers(-20, 20)
    labels = ["u", "v", *random.choice(["u", "v"], 4).tolist()]
    cell = lambda value: "?" if np.isnan(value) else repr(float(value))  # noqa: E731
    head = f"@univariate {str(channels == 1).lower()}\n@equalLength false\n@classLabel true u v\n@data\n"
    lines = [
        ":".join(",".join(map(cell, c)) for c in values.T) + f":{y}" for values, y in zip(series, labels, strict=True)
    ]
    (tmp_path / "x.ts").write_text(head + "\n".join(lines))
    names = [f"c{chr(97 + channel)}" for channel in range(channels)]
    plain = lambda values: [None if np.isnan(v) else float(v) for v in values]  # noqa: E731
    wide = [
        {**dict(zip(names, map(plain, values.T), strict=True)), "label": y}
        for values, y in zip(series, labels, strict=True)
    ]
    (tmp_path / "w.jsonl").write_text("\n".join(map(json.dumps, wide)))
    long = [
        {"series": index, "time": time, "label": labels[index], **dict(zip(names, plain(values[time]), strict=True))}
        for index, values in enumerate(series)
        for time in range(len(values))
    ]
    write_rows(tmp_path / "l.csv", read_table(long), {})
    for source in (tmp_path / "x.ts", tmp_path / "w.jsonl", tmp_path / "l.csv", long, wide):
        dataset = read_classification(source)
        assert same(dataset.inputs, series)
        assert names_of(dataset) == labels


def test_a_channel_that_is_not_there_is_named(write: Callable[[str, str], Path]) -> None:
    path = write("engines.csv", "unit,cycle,sensor_1,RUL\n1,1,0.5,2\n1,2,0.6,1\n1,3,0.7,0\n")
    for names in ("sensorx", "sensor_1,sensorx"):
        with pytest.raises(DataError, match="no column 'sensorx'"):
            read_regression(path, columns={"channels": names, "series": "unit"}, windows=Windows(2))
