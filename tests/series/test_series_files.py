"""Files of series: .ts, .arff, the archive's .tsv, .npz; against naive parses, scipy, and each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from series_read import names_of, same

from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_series.data import channels_of, groups_of, read_classification, read_regression
from adapterhub_series.data.windows import Windows

# Cases, channels, shortest and longest series, classes: as the archive's description has them.
REAL = {
    "ACSF1/ACSF1_TRAIN": (100, 1, 1460, 1460, 10),
    "ACSF1/ACSF1_TEST": (100, 1, 1460, 1460, 10),
    "BasicMotions/BasicMotions_TRAIN": (40, 6, 100, 100, 4),
    "BasicMotions/BasicMotions_TEST": (40, 6, 100, 100, 4),
    "GunPoint/GunPoint_TRAIN": (50, 1, 150, 150, 2),
    "GunPoint/GunPoint_TEST": (150, 1, 150, 150, 2),
    "ItalyPowerDemand/ItalyPowerDemand_TRAIN": (67, 1, 24, 24, 2),
    "ItalyPowerDemand/ItalyPowerDemand_TEST": (1029, 1, 24, 24, 2),
    "JapaneseVowels/JapaneseVowels_TRAIN": (270, 12, 7, 26, 9),
    "JapaneseVowels/JapaneseVowels_TEST": (370, 12, 7, 29, 9),
    "JapaneseVowels/JapaneseVowels_eq_TRAIN": (270, 12, 25, 25, 9),
    "JapaneseVowels/JapaneseVowels_eq_TEST": (370, 12, 25, 25, 9),
}


@pytest.mark.parametrize("name", REAL)
def test_real_ts_files(shared: Path, name: str) -> None:
    path = shared / "data" / "ucr_uea" / f"{name}.ts"
    dataset = read_classification(path)
    # A naive parse of the same file.
    lines = path.read_text(encoding="utf-8").splitlines()
    start = [line.strip().lower() for line in lines].index("@data") + 1
    cases = [line.split(":") for line in lines[start:] if line.strip()]
    expected = [np.array([[float(v) for v in part.split(",")] for part in case[:-1]], np.float32).T for case in cases]
    assert same(dataset.inputs, expected)
    assert all(values.dtype == np.float32 for values in dataset.inputs)
    assert names_of(dataset) == [case[-1] for case in cases]
    declared = next(line for line in lines if line.lower().startswith("@classlabel")).split()[2:]
    assert list(dataset.labels) == declared
    lengths = [len(values) for values in dataset.inputs]
    counted = (len(dataset), len(channels_of(dataset)), min(lengths), max(lengths), len(dataset.labels))
    assert counted == REAL[name]
    assert dataset.table is not None
    assert dataset.table.where(2, "label") == f"{path}, row 3 (line {start + 3}), column 'label'"


def test_archive_tsv_is_its_ts(shared: Path) -> None:
    folder = shared / "data" / "ucr_uea" / "GunPoint"
    ts, tsv = read_classification(folder / "GunPoint_TRAIN.ts"), read_classification(folder / "GunPoint_TRAIN.tsv")
    assert same(ts.inputs, tsv.inputs)
    assert names_of(ts) == names_of(tsv)
    assert "has no header; the first value of each line is read as its label" in tsv.notes[0]


HEADER = "@problemName p\n@timeStamps {stamps}\n@univariate {one}\n@equalLength {equal}\n{more}@data\n"


def ts(body: str, *, stamps: str = "false", one: str = "true", equal: str = "false", more: str | None = None) -> str:
    more = "@classLabel true b a\n" if more is None else more
    return HEADER.format(stamps=stamps, one=one, equal=equal, more=more) + body


def test_ts_missing_values_and_comments(write: Callable[[str, str], Path]) -> None:
    dataset = read_classification(write("x.ts", "# about\n" + ts("1,?,3:a\n\n# aside\n4,NaN,nan,7 : b\n")))
    assert same(dataset.inputs, [np.array([[1], [np.nan], [3]]), np.array([[4], [np.nan], [np.nan], [7]])])
    assert dataset.labels == ("b", "a")
    assert list(dataset.targets or ()) == [1, 0]
    assert "3 values missing (42.86%), in 2 series; kept as missing" in dataset.notes


def test_ts_time_stamps(write: Callable[[str, str], Path]) -> None:
    dated = "(2004-08-10 19:00:00,2),(2004-08-10 18:00:00,1),(2004-08-10 21:00:00,3):"
    other = "(2004-08-10 19:00:00,20),(2004-08-10 18:00:00,?),(2004-08-10 21:00:00,30):b\n"
    plain = "(0,1.5),(1,2.5):(0,-1e3),(1,.5):a\n"
    dataset = read_classification(write("x.ts", ts(dated + other + plain, stamps="true", one="false")))
    assert same(dataset.inputs, [np.array([[1, np.nan], [2, 20], [3, 30]]), np.array([[1.5, -1000], [2.5, 0.5]])])
    assert "values of 1 series sorted by time" in dataset.notes
    assert any(
        note.startswith("time steps are uneven in 1 series (between 3.6e+09 and 7.2e+09)") for note in dataset.notes
    )


def test_ts_regression(write: Callable[[str, str], Path]) -> None:
    path = write("x.ts", ts("1,2:0.5\n3,4,5:-2e1\n", more="@targetlabel true\n"))
    dataset = read_regression(path)
    assert dataset.targets == (0.5, -20.0)
    assert dataset.labels == ()
    with pytest.raises(DataError, match="its header declares a target, not classes; use --task series-regression"):
        read_classification(path)
    with pytest.raises(DataError, match="its header declares classes, not a target; use --task series-classification"):
        read_regression(write("y.ts", ts("1,2:a\n3,4:b\n")))
    assert read_regression(write("y.ts", ts("1,2:a\n3,4:b\n")), require_labels=False).targets is None


def test_ts_prediction(write: Callable[[str, str], Path]) -> None:
    path = write("x.ts", ts("1,2:?\n3,4:a\n"))
    with pytest.raises(DataError, match=r"row 1 \(line 7\), column 'label': label is missing"):
        read_classification(path)
    dataset = read_classification(path, labels=("a", "b"), require_labels=False)
    assert (dataset.targets, dataset.labels, len(dataset)) == (None, ("a", "b"), 2)
    assert "is not used as labels" in dataset.notes[-1]
    bare = read_classification(write("y.ts", ts("1,2\n3,4\n", more="@classLabel false\n")), require_labels=False)
    assert same(bare.inputs, [np.array([[1], [2]]), np.array([[3], [4]])])
    with pytest.raises(DataError, match="label 'a' is not one the adapter knows; known: b, c"):
        read_classification(write("z.ts", ts("1,2:a\n3,4:b\n")), labels=("b", "c"))


BAD_TS = {
    "unknown label": (ts("1,2:a\n1,2:c\n"), r"row 2 \(line 8\): label 'c' is not declared in @classLabel"),
    "not a number": (ts("1,2:a\n1,x,2:b\n"), r"row 2 \(line 8\), step 2: 'x' is not a number"),
    "python only": (ts("1,2:a\n1,1_0:b\n"), r"row 2 \(line 8\), step 2: '1_0' is not a number"),
    "infinite": (ts("1,-inf:a\n1,2:b\n"), r"row 1 \(line 7\), step 2: '-inf' is infinite"),
    "too large": (ts("1,1e39:a\n1,2:b\n"), r"row 1 \(line 7\), step 2: '1e39' is infinite or too large"),
    "empty value": (ts("1,,2:a\n1,2:b\n"), r"row 1 \(line 7\), step 2: value is empty; write \?"),
    "no values": (ts(":a\n1,2:b\n"), r"row 1 \(line 7\), step 1: value is empty"),
    "one step": (ts("1:a\n1,2:b\n"), r"row 1 \(line 7\): its series has 1 step, and needs 2"),
    "all missing": (ts("1,2:a\n?,?:b\n"), r"row 2 \(line 8\): all values of its series are missing"),
    "two channels": (ts("1,2:a\n1,2:3,4:b\n"), r"row 2 \(line 8\): has 2 dimensions where @univariate says 1"),
    "mixed channels": (
        ts("1,2:3,4:a\n1,2:b\n", one="false"),
        r"row 2 \(line 8\): has 1 dimension where the first series has 2",
    ),
    "declared channels": (
        ts("1,2:3,4:a\n", one="false", more="@dimensions 3\n@classLabel true a b\n"),
        r"row 1 \(line 8\): has 2 dimensions where @dimensions says 3",
    ),
    "unlike lengths": (
        ts("1,2:3,4,5:a\n", one="false"),
        r"row 1 \(line 7\), dimension 2: has 3 steps where dimension 1 has 2",
    ),
    "equal length": (
        ts("1,2:a\n1,2,3:b\n", equal="true"),
        r"row 2 \(line 8\): has 3 steps where the first series has 2",
    ),
    "series length": (
        ts("1,2:a\n", equal="true", more="@seriesLength 3\n@classLabel true a b\n"),
        r"row 1 \(line 8\): has 2 steps where @seriesLength says 3; is the line whole",
    ),
    "cut short": (ts("1,2:a\n1,2,3"), r"row 2 \(line 8\): has no ':' before a label; is the file cut short"),
    "no rows": (ts(""), "has no series below @data"),
    "no @data": ("@problemName x\n@classLabel true a b\n", "has no line @data; is the file whole"),
    "values first": ("1,2:a\n", "line 1: values stand before a line @data"),
    "no answer": (ts("1,2:a\n", more=""), "does not say what ends each line; add '@classLabel true"),
    "odd truth": (ts("1,2:a\n", equal="perhaps"), "line 4: @equallength is 'perhaps'; write true or false"),
    "odd count": (ts("1,2:a\n", more="@dimensions two\n"), "line 5: @dimensions is 'two'; write a whole number"),
    "no stamps": (ts("1,2:a\n", stamps="true"), r"row 1 \(line 7\), dimension 1: is not \(time,value\)"),
    "same stamp": (ts("(0,1),(0,2):a\n", stamps="true"), r"row 1 \(line 7\): time '0' is there twice"),
    "other stamps": (
        ts("(0,1),(1,2):(0,1),(2,2):a\n", stamps="true", one="false"),
        r"dimension 2: has other times than dimension 1",
    ),
    "odd stamps": (ts("(soon,1),(later,2):a\n", stamps="true"), "its times are neither all numbers nor all dates"),
    "half a pair": (ts("(0,1),(1,2:a\n", stamps="true"), r"row 1 \(line 7\)"),
    "one class": (ts("1,2:a\n1,2:a\n"), "every row has label 'a'; a classifier needs 2 classes"),
    "NUL": (ts("1,2:a\n1,\0:a\n"), "line 8: holds a NUL character"),
}


@pytest.mark.parametrize("case", BAD_TS)
def test_bad_ts_files(write: Callable[[str, str], Path], case: str) -> None:
    text, message = BAD_TS[case]
    path = write("bad.ts", text)
    with pytest.raises(DataError, match=message) as caught:
        read_classification(path)
    assert str(path) in str(caught.value)


def test_empty_and_absent_files(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    for name in ("a.ts", "a.arff", "a.tsv", "a.csv"):
        with pytest.raises(DataError, match=rf"{name}: is empty"):
            read_classification(write(name, ""))
    with pytest.raises(DataError, match=r"b.ts: no such file; did you mean '.*a.ts'"):
        read_classification(tmp_path / "b.ts")
    with pytest.raises(DataError, match=r"x.txt: files of type .txt are not read, .* name the columns in a first line"):
        read_classification(write("x.txt", "1 2 3\n"))


def test_latin_letters_in_a_ts_file(tmp_path: Path) -> None:
    (tmp_path / "x.ts").write_bytes(b"# Sch\xe4fer\n" + ts("1,2:a\n").encode())
    with pytest.raises(DataError, match=r"x.ts, line 1 \(byte 5\): not UTF-8"):
        read_classification(tmp_path / "x.ts")


FLAT = """% about
@relation flat
@attribute att0 numeric
@ATTRIBUTE 'att 1' real
@attribute att2 NUMERIC
@attribute target {two,one}
@data
1.5,?,-3e-1,two

% aside
4,5,?,one
"""
DEEP = r"""@relation deep
@attribute bag relational
  @attribute t0 numeric
  @attribute t1 numeric
  @attribute t2 numeric
@end bag
@attribute activity {walk,rest}
@data
"1,2,3\n4,5,6",rest
"7,?,9\n.5,-1e2,0",walk
"""


def test_arff_against_scipy(write: Callable[[str, str], Path]) -> None:
    arff = pytest.importorskip("scipy.io.arff")
    flat, deep = write("flat.arff", FLAT), write("deep.arff", DEEP)
    rows, meta = arff.loadarff(flat)
    dataset = read_classification(flat)
    expected = [np.array([row[name] for name in meta.names()[:3]], np.float32)[:, None] for row in rows]
    expected[1] = expected[1][:2]  # what ends in missing values is shorter
    assert same(dataset.inputs, expected)
    assert names_of(dataset) == [row["target"].decode() for row in rows]
    assert dataset.labels == ("two", "one")
    rows, _ = arff.loadarff(deep)
    dataset = read_classification(deep)
    expected = [np.array([list(channel) for channel in row["bag"]], np.float32).T for row in rows]
    assert same(dataset.inputs, expected)
    assert names_of(dataset) == [row["activity"].decode() for row in rows] == ["rest", "walk"]
    assert channels_of(dataset) == ("channel_1", "channel_2")
    assert dataset.columns["label"] == "activity"


def test_arff_quotes(write: Callable[[str, str], Path]) -> None:
    text = (
        FLAT.replace("{two,one}", "{two, 'one, class', \"it's\"}").replace(",one\n", ",'one, class'\n")
        + "7,8,9,'it\\'s'\n"
    )
    dataset = read_classification(write("x.arff", text))
    assert dataset.labels == ("two", "one, class", "it's")
    assert names_of(dataset) == ["two", "one, class", "it's"]


def test_arff_written_from_real_series(shared: Path, write: Callable[[str, str], Path]) -> None:
    real = read_classification(shared / "data" / "ucr_uea" / "BasicMotions" / "BasicMotions_TRAIN.ts")
    head = "@relation r\n@attribute bag relational\n"
    head += "".join(f"@attribute t{i} numeric\n" for i in range(100)) + "@end bag\n"
    head += "@attribute class {" + ",".join(real.labels) + "}\n@data\n"
    body = ""
    for values, label in zip(real.inputs, names_of(real), strict=True):
        body += "'" + "\\n".join(",".join(map(repr, c)) for c in values.T.tolist()) + f"',{label}\n"
    dataset = read_classification(write("motions.arff", head + body))
    assert same(dataset.inputs, real.inputs)
    assert (dataset.targets, dataset.labels) == (real.targets, real.labels)


BAD_ARFF = {
    "no @data": (FLAT[: FLAT.index("@data")], "has no line @data"),
    "short row": (FLAT + "1,2,two\n", r"row 3 \(line 12\): has 3 values where the header has 4 attributes"),
    "undeclared": (FLAT + "1,2,3,three\n", r"row 3 \(line 12\), column 'target': 'three' is not declared"),
    "no number": (FLAT + "1,x,3,two\n", r"row 3 \(line 12\), step 2: 'x' is not a number"),
    "sparse": (FLAT + "{0 1, 3 two}\n", r"row 3 \(line 12\): is a sparse row"),
    "open quote": (DEEP + "'1,2,3\\n4,5,6,walk\n", r"row 3 \(line 11\): a quote is never closed"),
    "channels": (DEEP + "'1,2,3',walk\n", r"row 3 \(line 11\): has 1 dimension where the first series has 2"),
    "steps": (DEEP + "'1,2,3\\n4,5',walk\n", r"row 3 \(line 11\), dimension 2: has 2 steps, not 3"),
    "too many steps": (DEEP + "'1,2,3,4\\n4,5,6,7',walk\n", r"row 3 \(line 11\), dimension 1: has 4 steps, not 3"),
    "a word too many": ("relation x\n" + FLAT, "line 1: is not @attribute NAME TYPE"),
    "no @end": (DEEP.replace("@end bag\n", "").replace("@attribute activity {walk,rest}\n", ""), "has no @end"),
    "text attribute": (FLAT.replace("'att 1' real", "name string"), "attribute 'name' is string"),
    "no rows": (FLAT[: FLAT.index("1.5")], "has no series below @data"),
}


@pytest.mark.parametrize("case", BAD_ARFF)
def test_bad_arff_files(write: Callable[[str, str], Path], case: str) -> None:
    text, message = BAD_ARFF[case]
    with pytest.raises(DataError, match=message):
        read_classification(write("bad.arff", text))


def test_archive_tsv(write: Callable[[str, str], Path]) -> None:
    text = "1.0000000e+00\t0.5\t1\tNaN\n-1\t2\tNaN\t3\n"
    dataset = read_classification(write("x.tsv", text))
    assert same(dataset.inputs, [np.array([[0.5], [1]], np.float32), np.array([[2], [np.nan], [3]], np.float32)])
    assert (names_of(dataset), dataset.labels) == (["1", "-1"], ("-1", "1"))
    assert any("1 series end in missing values and is taken as shorter than 3 steps" in note for note in dataset.notes)
    assert read_regression(write("y.tsv", text)).targets == (1.0, -1.0)
    for body, message in (
        ("1\t2\t4\n1\t2\n", r"row 2 \(line 2\): has 1 value after its first where row 1 has 2"),
        ("1\t2\t4\n2\t2\tx\n", r"row 2 \(line 2\), step 2: 'x' is not a number"),
        ("1\t2\t4\nNaN\t2\t4\n", r"row 2 \(line 2\), column 'label': label is missing"),
    ):
        with pytest.raises(DataError, match=message):
            read_classification(write("z.tsv", body))


def test_numbers_as_a_header_stay_a_header(write: Callable[[str, str], Path]) -> None:
    dataset = read_classification(write("x.csv", "0,1,2,3\na,5,6,7\nb,8,9,1\n"), columns={"label": "0"})
    assert same(dataset.inputs, [np.array([[5], [6], [7]]), np.array([[8], [9], [1]])])
    assert names_of(dataset) == ["a", "b"]


# .npz


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    def save(**arrays: Any) -> str:
        np.savez(tmp_path / "x.npz", **arrays)
        return str(tmp_path / "x.npz")

    return save


def test_arrays(save: Callable[..., str]) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(6, 5, 2))
    y = np.array([0, 1, 2, 0, 1, 2])
    path = save(x=x, y=y, classes=["rest", "walk", "run"], split=[0, 0, 0, 1, 2, 2], channels=["u", "v"], patient=y)
    dataset = read_classification(path)
    assert same(dataset.inputs, x.astype(np.float32))
    assert names_of(dataset) == ["rest", "walk", "run"] * 2
    assert channels_of(dataset) == ("u", "v")
    test = read_classification(f"{path}#test", columns={"group": "patient", "channels": "v"})
    assert same(test.inputs, x[4:, :, 1:].astype(np.float32))
    assert names_of(test) == ["walk", "run"]
    assert groups_of(test) == [1, 2]
    assert test.table is not None
    assert test.table.where(0) == f"{path}#test, row 5"
    assert read_regression(save(X=x[:, :, 0], y=y / 2)).targets == (0.0, 0.5, 1.0, 0.0, 0.5, 1.0)
    assert read_classification(save(x=x), require_labels=False).targets is None


def test_arrays_of_several_lengths(save: Callable[..., str]) -> None:
    x = np.arange(12.0).reshape(2, 6)
    expected = [x[0, :4, None], x[1, :, None]]
    assert same(read_regression(save(x=x, y=[1, 2], lengths=[4, 6])).inputs, expected)
    x[0, 4:] = np.nan
    padded = read_regression(save(x=x, y=[1, 2]))
    assert same(padded.inputs, expected)
    assert "1 series end in missing values and is taken as shorter than 6 steps" in padded.notes


def test_bad_arrays(save: Callable[..., str]) -> None:
    x = np.ones((3, 4))
    x[1, 2] = np.inf
    good = np.arange(12.0).reshape(3, 4)
    for arrays, message in (
        ({"x": x, "y": [0, 1, 2]}, r"row 2, array 'x', step 3: inf is infinite"),
        (
            {"x": np.array([[1], [1, 2]], dtype=object), "y": [0, 1]},
            r"not a readable .npz of plain arrays \(Object arrays",
        ),
        ({"x": good[0], "y": [0, 1, 2]}, r"array 'x': is float64 \(4,\); give numbers \(n, time\)"),
        ({"x": good.astype(str), "y": [0, 1, 2]}, "array 'x': is <U"),
        ({"x": good, "y": [0, 1]}, r"array 'y': has shape \(2,\), not one value for each of 3 series"),
        ({"x": good}, "has no array of labels; call it 'y': it has x"),
        ({"z": good, "y": [0, 1, 2]}, "has no array of series; call it 'x': it has z, y"),
        ({"x": good, "y": [0, 1, 2], "lengths": [1, 2, 9]}, "row 3, array 'lengths': is 9"),
        ({"x": good, "y": [0, 1, 2], "channels": ["a", "b"]}, "array 'channels': is .*; give one name for each of 1"),
        ({"x": good[:, :1], "y": [0, 1, 2]}, "row 1: its series has 1 step, and needs 2"),
    ):
        with pytest.raises(DataError, match=message):
            read_classification(save(**arrays))


def test_roles_a_file_cannot_have(write: Callable[[str, str], Path]) -> None:
    path = write("x.ts", ts("1,2:3,4:a\n5,6:7,8:b\n", one="false"))
    with pytest.raises(ConfigError, match=r"a \.ts file has no column for 'time'; it has channels"):
        read_classification(path, columns={"time": "t"})
    with pytest.raises(ConfigError, match="series-classification has no 'target' column"):
        read_classification(path, columns={"target": "t"})
    with pytest.raises(DataError, match="has no channel 'channel_3'"):
        read_classification(path, columns={"channels": "channel_3"})
    assert same(read_classification(path, columns={"channels": "channel_2"}).inputs, [[[3], [4]], [[7], [8]]])


def test_windows_of_files_keep_their_series(write: Callable[[str, str], Path]) -> None:
    path = write("x.ts", ts("1,2,3,4:a\n5,6:b\n"))
    dataset = read_classification(path, windows=Windows(3, stride=2))
    assert same(
        [values[:, 0] for values in dataset.inputs], [[1, 1, 2], [2, 3, 4], [5, 5, 6]]
    )  # the first step stands in for what is before it
    assert names_of(dataset) == ["a", "a", "b"]
    assert groups_of(dataset) == [1, 1, 2]
    assert dataset.table is not None
    assert dataset.table.column("window_end") == [2, 4, 2]


PIECES = [
    *map(str.encode, "\n,:\"'?\t[{}()@-% _"),
    b"@data",
    b"inf",
    b"nan",
    b"1e400",
    b"\0",
    b"\xff",
    b"#",
    b"\\n",
    b"true",
]


@pytest.mark.parametrize("name", ["a.ts", "b.ts", "c.arff", "d.arff", "e.tsv", "f.csv", "g.npz"])
def test_damaged_files_are_refused_or_whole(tmp_path: Path, name: str) -> None:
    """Cut, filled and shuffled at random, a file gives a data set that holds together or an error that names it."""
    path = tmp_path / name
    np.savez_compressed(tmp_path / "g.npz", x=np.arange(12.0).reshape(3, 4), y=[0, 1, 0], lengths=[4, 3, 2])
    whole = {
        "a.ts": ts("1,2,3:4,5,6:a\n1,2,?:4,5,6:b\n7,8:9,1:b\n", one="false").encode(),
        "b.ts": ts("(2004-08-10 19:00:00,2),(2004-08-10 18:00:00,1):a\n(0,1.5),(1,2.5):b\n", stamps="true").encode(),
        "c.arff": FLAT.encode(),
        "d.arff": DEEP.encode(),
        "e.tsv": b"1\t2\t4\n2\t3\tNaN\n",
        "f.csv": b"id,t0,t1,t2,class\ne,0,1,2,u\nf,5,,5,v\n",
        "g.npz": (tmp_path / "g.npz").read_bytes(),
    }[name]
    random = np.random.default_rng(len(whole))
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            start, stop = sorted(random.integers(0, len(data) + 1, 2).tolist())
            change = random.integers(4)
            if change == 0:
                data = data[:start]
            elif change == 1:
                data[start:start] = PIECES[random.integers(len(PIECES))]
            elif change == 2:
                del data[start : min(stop, start + 20)]
            else:
                data[stop:stop] = data[start : start + 10]
        path.write_bytes(data)
        for windows in (None, Windows(2)):
            refused = ""
            try:
                dataset = read_classification(path, windows=windows)
            except DataError as error:
                refused = str(error)
            if refused:
                assert str(path) in refused
                continue
            assert dataset.table is not None
            assert dataset.targets is not None
            assert len(dataset.table) == len(dataset) == len(dataset.targets)
            width = len(channels_of(dataset))
            assert all(values.ndim == 2 and values.shape[1] == width for values in dataset.inputs)
            assert not any(np.isinf(values).any() for values in dataset.inputs)
