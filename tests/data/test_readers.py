"""Reading good files of every kind, and naming what is wrong with bad ones."""

from __future__ import annotations

import codecs
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError

ROWS = [
    {"text": "hello there", "label": "a"},
    {"text": "two\nlines, quoted", "label": "b"},
    {"text": "ü", "label": "a"},
]
CSV = 'text,label\r\nhello there,a\r\n"two\nlines, quoted",b\r\nü,a\r\n'


def texts(table: Table) -> list[str]:
    return [row for row in table.column("text")]  # noqa: C416


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.csv", CSV.encode(), [2, 3, 5]),
        ("bom.csv", codecs.BOM_UTF8 + CSV.encode(), [2, 3, 5]),
        ("wide.csv", CSV.encode("utf-16"), [2, 3, 5]),
        ("big_endian.csv", codecs.BOM_UTF16_BE + CSV.encode("utf-16-be"), [2, 3, 5]),
        ("tabs.tsv", CSV.replace(",l", "\tl").replace(",a", "\ta").replace(",b", "\tb").encode(), [2, 3, 5]),
        ("semicolons.csv", CSV.replace(",l", ";l").replace(",a", ";a").replace(",b", ";b").encode(), [2, 3, 5]),
        ("tabs.csv", CSV.replace(",l", "\tl").replace(",a", "\ta").replace(",b", "\tb").encode(), [2, 3, 5]),
        ("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode(), [1, 2, 3]),
        ("a.ndjson", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(), [1, 3, 5]),
        ("a.json", json.dumps(ROWS, indent=1).encode(), [2, 6, 10]),
    ],
)
def test_text_files_give_the_same_rows_and_their_lines(
    tmp_path: Path, name: str, content: bytes, lines: list[int]
) -> None:
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    assert [
        dict(zip(table.columns, row, strict=True)) for row in zip(*map(table.column, table.columns), strict=True)
    ] == ROWS
    assert list(table.lines or ()) == lines
    assert table.where(1, "text") == f"{tmp_path / name}, row 2 (line {lines[1]}), column 'text'"
    assert len(table.sha256) == 64


def test_an_unexpected_separator_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text;label\na, b;x\n")
    table = read_table(tmp_path / "a.csv")
    assert table.column("text") == ["a, b"]
    assert table.notes == (f"{tmp_path / 'a.csv'}: columns are separated by semicolons, not commas",)


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n\na,x\n\nb,y\n\n")
    table = read_table(tmp_path / "a.csv")
    assert table.column("text") == ["a", "b"]
    assert list(table.lines or ()) == [3, 5]
    assert table.notes == (f"{tmp_path / 'a.csv'}: 2 blank lines between rows skipped",)


def test_a_field_of_a_million_characters(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 1_000_000},a\n")
    assert len(read_table(tmp_path / "a.csv").column("text")[0]) == 1_000_000


def test_parquet_arrow_and_feather_keep_types(tmp_path: Path) -> None:
    arrow = pa.table({"n": [1, 2, None], "m": [[{"role": "user"}], [], None]})
    pq.write_table(arrow, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, arrow.schema) as writer:
        writer.write_table(arrow)
    with pa.OSFile(str(tmp_path / "a.feather"), "wb") as file, pa.ipc.new_file(file, arrow.schema) as writer:
        writer.write_table(arrow)
    for name in ("a.parquet", "a.arrow", "a.feather"):
        table = read_table(tmp_path / name)
        assert table.column("n") == [1, 2, None]
        assert table.column("m") == [[{"role": "user"}], [], None]
        assert table.where(2) == f"{tmp_path / name}, row 3"


def test_json_values_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": [1, "x"], "c": True}, {"a": "one", "b": {"k": None}}, {"c": None, "d": 2**70}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = read_table(path)
    assert table.columns == ("a", "b", "c", "d")
    assert table.column("a") == [1, "one", None]
    assert table.column("b") == [[1, "x"], {"k": None}, None]
    assert table.column("c") == [True, None, None]
    assert table.column("d") == [None, None, 2**70]


def test_a_column_whose_type_changes_between_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    values = [1] * 5000 + ["x"] * 5000
    path.write_text("".join(json.dumps({"a": value, "b": index}) + "\n" for index, value in enumerate(values)))
    table = read_table(path)
    assert table.column("a") == values
    assert table.column("b") == list(range(10000))
    assert table.take([9999, 0]).column("a") == ["x", 1]


BAD_FILES = [
    ("empty.csv", b"", "empty.csv: is empty"),
    ("blank.csv", b"\n\n", "blank.csv: is empty"),
    ("header.csv", b"text,label\n", "header.csv: has a header (text, label) but no rows"),
    (
        "few.csv",
        b'text,label\n"a\nb",x\nalone\n',
        "few.csv, row 2 (line 4): has 1 value where the header has 2 columns",
    ),
    (
        "many.csv",
        b"text,label\na,b\n\nc,d,e\n",
        "many.csv, row 2 (line 4): has 3 values where the header has 2 columns",
    ),
    ("twice.csv", b"text,text\na,b\n", "twice.csv: the header names column 'text' more than once"),
    ("index.csv", b",text\n0,a\n", "index.csv: column 1 of the header has no name"),
    ("third.csv", b"a,b,\n0,a,b\n", "third.csv: column 3 of the header has no name"),
    ("open.csv", b'text,label\na,x\n"b,y\nc,z\n', "open.csv, row 2 (line 3): a double quote opens in this row"),
    ("head.csv", b'"text,label\na,x\n', "head.csv, line 1 (the header): a double quote opens"),
    ("after.csv", b'text,label\na,x\n"b" or c,y\n', "after.csv, row 2 (line 3): bad quoting"),
    ("latin.csv", b"text,label\na,x\ncaf\xe9,y\n", "latin.csv, line 3 (byte 18): not UTF-8 (0xe9"),
    ("bom_latin.csv", codecs.BOM_UTF8 + b"text\ncaf\xe9!\n", "bom_latin.csv, line 2 (byte 11): not UTF-8 (0xe9"),
    ("cut.csv", b"text\n" + b"x" * 65530 + b"\xc3", "cut.csv, line 2 (byte 65535): not UTF-8 (0xc3"),
    ("far.csv", b"text\n" + b"\xc3\xa9\n" * 40000 + b"\xff\n", "far.csv, line 40002 (byte 120005): not UTF-8 (0xff"),
    (
        "half.csv",
        codecs.BOM_UTF16_LE + "text\nab\n".encode("utf-16-le") + b"\x00\xd8a\x00",
        "line 3 (byte 18): not UTF-16",
    ),
    ("nobom.csv", "text,label\na,b\n".encode("utf-16-le"), "nobom.csv: looks like UTF-16 without a byte order mark"),
    ("wide.csv", "text,label\na,b\n".encode("utf-32"), "wide.csv: is UTF-32"),
    ("excel.csv", b"PK\x03\x04rest", "excel.csv: is a zip archive or an Excel workbook"),
    ("nul.csv", b"te\0xt,label\na,b\n", "nul.csv, line 1 (the header): contains NUL"),
    ("empty.jsonl", b"\n", "empty.jsonl: is empty"),
    (
        "bad.jsonl",
        b'{"a": 1}\n\n{"a": }\n',
        "bad.jsonl, row 2 (line 3): not valid JSON, Expecting value at character 7",
    ),
    ("list.jsonl", b'{"a": 1}\n[1]\n', "list.jsonl, row 2 (line 2): is an array, not an object"),
    ("null.jsonl", b"null\n", "null.jsonl, row 1 (line 1): is null, not an object"),
    ("none.jsonl", b'{"a": 1}\n{}\n', "none.jsonl, row 2 (line 2): is an empty object"),
    ("same.jsonl", b'{"a": 1, "a": 2}\n', "same.jsonl, row 1 (line 1): not usable JSON, key 'a' appears twice"),
    ("deep.jsonl", b'{"a": ' + b"[" * 100000, "deep.jsonl, row 1 (line 1): not usable JSON"),
    (
        "pair.jsonl",
        b'{"a": "x"}\n{"a": "\\ud83d"}\n',
        "pair.jsonl, row 2 (line 2), column 'a': holds half of a surrogate",
    ),
    ("inner.jsonl", b'{"a": ["\\ud83d"]}\n', "inner.jsonl, row 1 (line 1), column 'a': holds half of a surrogate"),
    ("latin.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', "latin.jsonl, line 2 (byte 16): not UTF-8"),
    ("object.json", b'{"a": 1}\n{"a": 2}', "object.json, line 1: must hold an array of objects"),
    ("space.json", b" \n", "space.json: is empty"),
    ("nothing.json", b"[]", "nothing.json: holds an empty array"),
    ("bad.json", b'[\n{"a": 1},\n{"a": x}\n]', "bad.json, row 2 (line 3): not valid JSON, Expecting value at line 3"),
    ("number.json", b'[\n{"a": 1},\n7]', "number.json, row 2 (line 3): is a number or boolean, not an object"),
    ("cut.json", b'[\n{"a": 1}', "cut.json, row 1 (line 2): expected ',' or ']' after this object, found the end"),
    ("more.json", b'[{"a": 1}]\n[{"a": 2}]', "more.json, line 2: more text after the array"),
    ("bad.parquet", b"PAR1 no", "bad.parquet: not a readable Parquet file"),
    ("bad.arrow", b"ARROW no", "bad.arrow: not a readable Arrow file"),
    ("a.xlsx", b"PK", "a.xlsx: files of type .xlsx are not read; save the sheet as CSV"),
    ("a.pkl", b"x", "a.pkl: files of type .pkl are not read; pickles run code"),
    ("a.odd", b"x", "a.odd: files of type .odd are not read; give one of .csv .tsv"),
    ("plain", b"x", "plain: files of type (no suffix) are not read"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[bad[0] for bad in BAD_FILES])
def test_a_bad_file_is_refused_by_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(str(tmp_path / name))
    text = str(caught.value)
    assert message in text
    assert text.startswith(str(tmp_path / name))
    assert "\n" not in text


def test_a_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"trian\.csv: no such file; did you mean '.*train\.csv'\?"):
        read_table(tmp_path / "trian.csv")
    with pytest.raises(DataError, match=r"zzzz: no such file; check the path"):
        read_table(tmp_path / "zzzz")
    with pytest.raises(DataError, match=r"nor a folder"):
        read_table(tmp_path / "nowhere" / "train.csv")


def test_a_folder_is_refused_with_the_files_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; it holds no file"):
        read_table(tmp_path)
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"is a folder; give a file in it: train\.csv"):
        read_table(tmp_path)


def test_an_unreadable_file_is_an_error_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # as root, every file is readable
    with pytest.raises(DataError, match=r"a\.csv: cannot be read \(Permission denied\)"):
        read_table(path)


def test_no_memory_beyond_a_small_multiple_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    line = f'"{"words, and more words " * 28}",label_a\r\n'
    with path.open("w", newline="") as file:
        file.write("text,label\r\n")
        for _ in range(100):
            file.write(line * 960)
    size = path.stat().st_size
    assert size > 55_000_000
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        table = read_table(path)
        _, python_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    arrow = pa.total_allocated_bytes() - before
    assert len(table) == 96_000
    assert arrow < 1.5 * size
    assert python_peak < 40_000_000


@pytest.mark.parametrize("module", ["adapterhub_lite.data", "adapterhub_lite.tasks", "adapterhub_lite.data.write"])
def test_importing_data_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'pandas', 'transformers', 'datasets', 'sklearn', 'PIL') if m in sys.modules])"  # noqa: E501
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shape", [(10**14,), (10**9, 10**5), (2**62, 4), (-1,), (10**14, 0)])
def test_an_array_that_says_it_is_larger_than_it_is(shape: tuple[int, ...], tmp_path: Path) -> None:
    import io
    import zipfile

    from adapterhub_lite.data.files.npz import load_arrays

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
    if shape == (10**14, 0):  # which holds nothing
        assert load_arrays(tmp_path / "a.npz", "a.npz")["x"].size == 0
        return
    with pytest.raises(DataError, match=r"a\.npz: not a readable \.npz of plain arrays .*write it with numpy\.savez"):
        load_arrays(tmp_path / "a.npz", "a.npz")
