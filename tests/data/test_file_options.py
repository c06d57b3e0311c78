"""What is said of a file beside its name: its format, header, encoding and quotes; and the splits of a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import adapterhub_lite as ah
from adapterhub_lite.adapter.read import read_for, read_like
from adapterhub_lite.cli.run_file import read_run
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.storage import TaskRecord
from adapterhub_lite.tasks.catalog import Catalog
from tests.reading import load_data

TASK = "text-classification"
HEADLESS = (
    "ham,see you at eight then\nspam,you have won a prize\nham,did the parcel arrive\nspam,cheap loans today only\n"
)
TEXTS = ["see you at eight then", "you have won a prize", "did the parcel arrive", "cheap loans today only"]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_a_file_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADLESS)
    data = load_data(path, TASK, files=FileOptions(no_header=True))
    assert list(data.inputs) == TEXTS
    assert (data.labels, data.targets) == (("ham", "spam"), (0, 1, 0, 1))
    assert data.columns == {"text": "column_2", "label": "column_1"}
    assert data.files == {"no_header": True}
    assert data.table is not None
    assert data.table.where(1) == f"{path}, row 2 (line 2)"


def test_a_header_that_is_a_row_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADLESS)
    with pytest.raises(
        DataError, match=r"a\.csv: the column of the label is called 'ham', which is the label of row 2"
    ) as at:
        load_data(path, TASK)
    assert "--no-header (no_header=True in Python)" in str(at.value)
    assert "--column label=ham" in str(at.value)
    assert len(load_data(path, TASK, columns={"label": "ham"})) == 3
    assert len(ah.load_data(path, TASK, no_header=True)) == 4


@pytest.mark.parametrize("required", [True, False])
def test_so_it_is_where_an_adapter_knows_the_label(tmp_path: Path, required: bool) -> None:
    path = write(tmp_path / "a.csv", "spam,you have won a prize now\nham,did the parcel arrive\n")
    with pytest.raises(DataError, match="called 'spam', which is one of the adapter's labels"):
        load_data(path, TASK, labels=["ham", "spam"], require_labels=required)


def test_a_number_that_would_be_the_name_of_labels_or_targets(tmp_path: Path) -> None:
    labels = write(tmp_path / "a.csv", "3,you have won a prize\n4,did the parcel arrive\n5,cheap loans today only\n")
    with pytest.raises(DataError, match="the column of the label is called '3', which is a number"):
        load_data(labels, TASK)
    numbers = write(tmp_path / "b.csv", "2.5,you have won a prize\n4.5,did the parcel arrive\n")
    with pytest.raises(DataError, match=r"the column of the target is called '2\.5', which is a number"):
        load_data(numbers, "text-regression")
    assert load_data(numbers, "text-regression", files=FileOptions(no_header=True)).targets == (2.5, 4.5)


def test_the_names_that_pandas_gives_are_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "0,1\nyou have won a prize,1\ndid the parcel arrive,0\n")
    assert load_data(path, TASK).columns == {"text": "0", "label": "1"}


def test_a_table_whose_columns_cannot_be_told_names_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,x,see you at eight then\n2,y,you have won\n")
    with pytest.raises(DataError, match="or give --no-header if the first line is a row"):
        load_data(path, TASK)
    with pytest.raises(DataError, match="or give --no-header if the first line is a row"):
        load_data(path, "causal-lm")
    with pytest.raises(DataError) as caught:
        load_data(path, "causal-lm", files=FileOptions(no_header=True))
    assert "--no-header" not in str(caught.value)
    columns = {"text": "column_3", "label": "column_2"}
    assert len(load_data(path, TASK, files=FileOptions(no_header=True), columns=columns)) == 2


def test_a_row_of_another_width_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b\nc,d,e\n")
    with pytest.raises(DataError, match=r"row 2 \(line 2\): has 3 values where the first row has 2 columns"):
        read_table(path, FileOptions(no_header=True))


def test_empty_and_repeated_values_in_the_first_row(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "\n1,1,\n2,,x\n"), FileOptions(no_header=True))
    assert table.columns == ("column_1", "column_2", "column_3")
    assert table.column("column_3") == ["", "x"]
    assert list(table.lines or ()) == [2, 3]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "shift_jis"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    text = "日本" if encoding == "shift_jis" else "Grüße"
    rows = [{"text": text, "label": "a"}]
    whole = json.dumps(rows, ensure_ascii=False)
    content = {"a.csv": f"text,label\n{text},a\n", "a.json": whole, "a.jsonl": whole.strip("[]")}
    path = write(tmp_path / name, content[name], encoding)
    assert read_table(path, FileOptions(encoding=encoding)).column("text") == [text]


def test_bytes_that_are_not_in_the_encoding_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nGrüße,a\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv, line 2 \(byte 13\): not UTF-8 .* --encoding cp1252"):
        read_table(path)
    path.write_bytes(b"text,label\n\x81,a\n")
    with pytest.raises(DataError, match=r"line 2 \(byte 11\): not CP1252 \(0x81.*; give another"):
        read_table(path, FileOptions(encoding="cp1252"))


def test_quotes_that_are_characters(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"so, he said\ta\nthe 5" disk\tb\n')
    with pytest.raises(DataError, match=r"row 1 \(line 2\).*--quoting none"):
        read_table(path)
    assert read_table(path, FileOptions(quoting="none")).column("text") == ['"so, he said', 'the 5" disk']
    commas = write(tmp_path / "a.csv", 'text,label\n"a, b",x\n')
    with pytest.raises(
        DataError, match=r"row 1 \(line 2\): has 3 values .* without quotes no value can contain commas"
    ):
        read_table(commas, FileOptions(quoting="none"))


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        ("csv", "text,label\nx y,a\n"),
        ("tsv", "text\tlabel\nx y\ta\n"),
        ("jsonl", '{"text": "x y", "label": "a"}\n'),
        ("json", '[{"text": "x y", "label": "a"}]'),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a", "a.data"])
def test_a_format_that_the_name_does_not_say(tmp_path: Path, format_: str, content: str, name: str) -> None:
    table = read_table(write(tmp_path / name, content), FileOptions(format=format_))
    assert (table.column("text"), table.column("label"), table.notes) == (["x y"], ["a"], ())


REFUSED = [
    ("a.csv", {"format": "cvs"}, r"there is no format 'cvs' \(did you mean 'csv'\?\)"),
    ("a.csv", {"quoting": "all"}, "there is no quoting 'all'"),
    ("a.csv", {"encoding": "klingon"}, "there is no text encoding 'klingon'"),
    ("a.csv", {"encoding": "hex"}, "there is no text encoding 'hex'"),
    ("a.jsonl", {"no_header": True}, r"--no-header is for CSV and TSV files, and .*a\.jsonl is none"),
    ("a.jsonl", {"quoting": "none"}, "--quoting is for CSV and TSV files"),
    ("a.parquet", {"encoding": "latin-1"}, "--encoding is for text files"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_options_that_do_not_go_with_the_file(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(write(tmp_path / name, HEADLESS), TASK, files=FileOptions(**options))


def test_options_say_nothing_of_data_in_memory_and_of_what_a_task_reads_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--no-header is for CSV and TSV files, and data in memory is none"):
        load_data([{"text": "a", "label": "b"}], TASK, files=FileOptions(no_header=True))
    conll = write(tmp_path / "a.conll", "a O\n")
    with pytest.raises(ConfigError, match="--encoding is for text files"):
        load_data(conll, "token-classification", files=FileOptions(encoding="latin-1"))


def record(columns: dict[str, str], files: dict[str, Any]) -> TaskRecord:
    return TaskRecord(name=TASK, labels=["ham", "spam"], columns=columns, files=files, preprocessing={})


def test_an_adapter_reads_new_files_as_that_of_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADLESS)
    columns = {"text": "column_2", "label": "column_1"}
    trained = record(columns, {"no_header": True, "encoding": "latin-1", "quoting": "none"})
    for required in (True, False):
        data = read_for(trained, path, plugins=Plugins(), require_labels=required)
        assert (list(data.inputs), data.columns, data.files) == (TEXTS, columns, trained.files)
    # What says nothing of another kind of file is left aside; what is said of this one goes first.
    lines = write(tmp_path / "a.jsonl", '{"text": "Grüße", "label": "ham"}\n', "cp1252")
    assert read_for(trained, lines, plugins=Plugins(), require_labels=True).inputs[0] == "Grüße"
    other = FileOptions(encoding="utf-8")
    written = write(tmp_path / "b.csv", "ham,Grüße\n")
    again = read_for(trained, written, plugins=Plugins(), require_labels=True, files=other)
    assert (again.inputs[0], again.files["encoding"]) == ("Grüße", "utf-8")
    rows = [{"text": "a", "label": "ham"}]
    assert len(read_for(trained, rows, plugins=Plugins(), require_labels=True)) == 1


def test_the_format_of_training_is_not_that_of_a_file_whose_name_says_another(tmp_path: Path) -> None:
    trained = record({"text": "text", "label": "label"}, {"format": "jsonl"})
    path = write(tmp_path / "a.csv", "text,label\nhello there,ham\n")
    assert read_for(trained, path, plugins=Plugins(), require_labels=True).files == {}
    unnamed = write(tmp_path / "a.data", '{"text": "hello there", "label": "ham"}\n')
    assert read_for(trained, unnamed, plugins=Plugins(), require_labels=True).files == {"format": "jsonl"}


def test_a_record_that_is_not_understood_is_an_error_of_ours(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADLESS)
    with pytest.raises(ConfigError, match="what is recorded of the file of training is not understood"):
        read_for(record({}, {"no_header": [1]}), path, plugins=Plugins(), require_labels=True)


def test_held_out_data_is_read_as_that_to_learn_from(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADLESS)
    data = load_data(path, TASK, files=FileOptions(no_header=True))
    assert list(read_like(Catalog(Plugins()), data, path).inputs) == TEXTS


def test_a_run_file_says_it_too(tmp_path: Path) -> None:
    path = write(
        tmp_path / "run.yaml", "base: b\ndata: a.csv\ntask: text-classification\nout: o\nfiles:\n  no_header: true\n"
    )
    run = read_run(path, {"files": {"encoding": "latin-1"}})
    assert run.files == FileOptions(no_header=True, encoding="latin-1")
    assert read_run(None, {"base": "b", "data": "a", "task": "t", "out": "o"}).files == FileOptions()
    write(path, path.read_text() + "  heade: false\n")
    with pytest.raises(ConfigError, match=r"there is no key 'files\.heade'"):
        read_run(path, {})


SPLITS = {
    "train": [["book a flight", "travel"], ["play a song", "music"]],
    "test": [["stop the music", "music"]],
    "note": "x",
}


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_file_of_splits(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path / "clinc.json", json.dumps(SPLITS, indent=indent))
    with pytest.raises(
        DataError, match=r"clinc\.json: holds several splits \(train, test\); give one, such as '.*json#train'"
    ):
        load_data(path, TASK)
    data = load_data(f"{path}#train", TASK)
    assert list(data.inputs) == ["book a flight", "play a song"]
    assert (data.labels, data.columns) == (("music", "travel"), {"text": "column_1", "label": "column_2"})
    assert data.table is not None
    assert data.table.where(1) == f"{path}#train, row 2 (line {7 if indent else 1})"
    test = load_data(f"{path}#test", TASK, labels=data.labels)
    assert (list(test.inputs), test.targets) == (["stop the music"], (0,))
    with pytest.raises(DataError, match=r"there is no split 'tset' \(did you mean 'test'\?\); it has train, test"):
        load_data(f"{path}#tset", TASK)


def test_splits_of_objects_and_a_single_list_of_rows(tmp_path: Path) -> None:
    rows = [{"text": "hello there", "label": "a"}, {"text": "so long", "label": "b"}]
    path = write(tmp_path / "a.json", json.dumps({"version": 1, "data": rows}))
    data = load_data(path, TASK)
    assert list(data.inputs) == ["hello there", "so long"]
    assert data.notes[0] == f"{path}: the rows are those under 'data'"
    assert len(load_data(f"{path}#data", TASK)) == 2


def test_rows_that_are_arrays_of_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '["book a flight", "travel"]\n["play a song", "music"]\n')
    assert load_data(path, TASK).labels == ("music", "travel")


BAD_JSON = [
    ('{"train": [["a", "b"], ["c"]]}', "row 2 (line 1): has 1 values where the first row has 2"),
    ('{"train": [["a", "b"], {"c": 1}]}', "row 2 (line 1): is an object, not an array, as the first row is"),
    ('{"train": [{"a": 1}, ["c"]]}', "row 2 (line 1): is an array, not an object"),
    ('{"train": [{"a": 1}, {"a": }]}', "'train', row 2 (line 1): not valid JSON"),
    ('{"text": ["a"], "label": ["b"]}', "line 1: must hold an array of objects"),
    ('{"train": [["a", "b"]]', "not valid JSON"),
    ('{"train" [["a", "b"]]}', "not valid JSON"),
    ('{"text": "a"}\n{"text": "b"}\n', "if it holds one object a line, rename it to .jsonl"),
    ("{}", "line 1: must hold an array of objects"),
    ("3", "line 1: must hold an array of objects"),
]


@pytest.mark.parametrize(("content", "message"), BAD_JSON)
def test_json_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path / "a.json", content))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


def test_a_split_of_a_file_that_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"a": 1}]')
    with pytest.raises(DataError, match=r"a\.json#train: holds one array and no splits; leave out #train"):
        read_table(f"{path}#train")


def test_columns_that_are_not_used_are_listed(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": "hello there", "label": "a", "day": 2},
        {"id": 2, "text": "so long", "label": "b", "day": 3},
    ]
    assert load_data(rows, TASK).notes[-1] == "columns that are not used: id, day"
    assert load_data(rows, "causal-lm").notes == ("columns that are not used: id, label, day",)
    assert load_data(rows, TASK, columns={"group": "id"}).notes[-1] == "columns that are not used: day"
    several = [{"text": "hello there", "x": 1, "y": 0}, {"text": "so long", "x": 0, "y": 1}]
    assert not any("not used" in note for note in load_data(several, TASK, columns={"labels": "x,y"}).notes)


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("1", "1.0", "are the same number"), ("7", "07", "are the same number"), ("yes", "yes\u200b", "look alike"),
        ("yes", "y\u00ades", "look alike"), ("a b", "a\u00a0b", "look alike"), ("caf\u00e9", "cafe\u0301", "look alike"),
        ("ok", "ok\ufe0f", "look alike"), ("ok", "o\u034fk", "look alike"), ("Yes", "yes", "differ only in case"),
    ],
)  # fmt: skip
def test_labels_that_may_be_one_are_said(one: str, other: str, how: str) -> None:
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate([one, other, "z"] * 2)]
    (note,) = load_data(rows, TASK).notes
    assert how in note
    assert "and are kept apart (1 such)" in note
    words = [{"tokens": ["a", "b"], "tags": [one, other]}]
    (note,) = load_data(words, "token-classification").notes
    assert how in note


def test_numbers_and_words_that_differ_are_not_said() -> None:
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(["1", "10", "0.1", "one", "1a"] * 2)]
    assert load_data(rows, TASK).notes == ()
