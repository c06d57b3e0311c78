"""Labelled texts that are no table: a label and a text on each line, and a folder of texts for each class."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapterhub_lite.adapter.read import read_for
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.spill import Batches
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.storage import TaskRecord
from tests.reading import load_data

TASK = "text-classification"
LABEL_TEXT = FileOptions(format="label-text")
QUESTIONS = "DESC:manner How do bees see ?\n\nENTY:animal\tWhat animal is  tall ? \nDESC:manner How is glass made ?\n"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_a_label_and_a_text_on_each_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", QUESTIONS)
    data = load_data(path, TASK, files=LABEL_TEXT)
    assert list(data.inputs) == ["How do bees see ?", "What animal is  tall ?", "How is glass made ?"]
    assert (data.labels, data.targets) == (("DESC:manner", "ENTY:animal"), (0, 1, 0))
    assert data.table is not None
    assert data.table.where(1) == f"{path}, row 2 (line 3)"


def test_without_the_option_the_error_names_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", QUESTIONS)
    with pytest.raises(
        DataError, match=r"a\.txt: files of type \.txt are not read; .*--format label-text where each line"
    ):
        load_data(path, TASK)
    with pytest.raises(ConfigError, match="there is no format 'label-text'"):
        load_data(path, "text-regression", files=LABEL_TEXT)


def test_the_labels_of_fasttext(tmp_path: Path) -> None:
    path = write(tmp_path / "a.train", "__label__good I like it\n__label__bad I do not\n")
    assert load_data(path, TASK, files=LABEL_TEXT).labels == ("bad", "good")
    write(path, "__label__good I like it\n__label__bad __label__sad I do not\n")
    with pytest.raises(
        DataError, match=r"a\.train, row 2 \(line 2\): has several labels; write all rows as JSON lines"
    ):
        load_data(path, TASK, files=LABEL_TEXT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a one\nb\n", r"row 2 \(line 2\): is 'b' alone; write a label, a space, and a text"),
        ("a one\n\nb  \n", r"row 2 \(line 3\): is 'b' alone"),
        ("\n\n", "is empty; each line must hold"),
        ("a one\nb t\0wo\n", r"row 2 \(line 2\), column 'text': text has a NUL"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(write(tmp_path / "a.txt", content), TASK, files=LABEL_TEXT)


def test_their_encoding_can_be_said_and_other_options_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a Grüße an alle\nb und nun\n", "latin-1")
    with pytest.raises(DataError, match=r"line 1 \(byte 4\): not UTF-8"):
        load_data(path, TASK, files=LABEL_TEXT)
    data = load_data(path, TASK, files=FileOptions(format="label-text", encoding="latin-1"))
    assert data.inputs[0] == "Grüße an alle"
    with pytest.raises(ConfigError, match="--quoting is for CSV and TSV files"):
        load_data(path, TASK, files=FileOptions(format="label-text", quoting="none"))


def class_folders(root: Path, encoding: str = "utf-8") -> Path:
    write(root / "pos" / "0_9.txt", "a fine film, très bien", encoding)
    write(root / "pos" / "deeper" / "1_8.txt", "another fine film", encoding)
    write(root / "neg" / "0_2.txt", "not my film", encoding)
    write(root / "neg" / "49960", "no suffix, as in 20 newsgroups", encoding)
    return root


def test_a_folder_of_texts_for_each_class(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "train")
    write(root / "neg" / ".hidden.txt", "x")
    write(root / "neg" / "scan.png", "x")
    write(root / "README.md", "about")
    write(root / ".cache" / "old.txt", "x")
    data = load_data(root, TASK)
    assert list(zip(data.inputs, (data.labels[i] for i in data.targets or ()), strict=True)) == [
        ("not my film", "neg"),
        ("no suffix, as in 20 newsgroups", "neg"),
        ("a fine film, très bien", "pos"),
        ("another fine film", "pos"),
    ]
    assert data.columns == {"text": "text", "label": "label"}
    assert data.notes[:3] == (
        f"{root}: 1 file outside the class folders left out",
        f"{root}: 1 file of other kinds left out (1 .png)",
        f"{root}: 2 hidden files left out",
    )
    shutil.copytree(root, tmp_path / "copy")
    assert load_data(tmp_path / "copy", TASK).sha256 == data.sha256
    write(tmp_path / "copy" / "pos" / "0_9.txt", "changed")
    assert load_data(tmp_path / "copy", TASK).sha256 != data.sha256


def test_a_folder_of_splits_names_one(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test")
    with pytest.raises(DataError, match=r"holds splits \(test, train\); give one of them, such as '.*test'"):
        load_data(tmp_path, TASK)


def test_texts_without_class_folders_are_for_prediction(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.txt", "one text")
    data = load_data(tmp_path / "in", TASK, labels=["neg", "pos"], require_labels=False)
    assert (list(data.inputs), data.targets) == (["one text"], None)
    with pytest.raises(DataError, match="its texts stand in no class folder; put those of each class"):
        load_data(tmp_path / "in", TASK)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"  \n", "is empty"), (b"", "is empty"), (b"ab\0c", "has a NUL character"), (b"ab\xff\n", r"line 1 \(byte 2\): not UTF-8")],
)  # fmt: skip
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    root = class_folders(tmp_path / "train")
    (root / "pos" / "bad.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"pos/bad\.txt.*{message}"):
        load_data(root, TASK)


def test_a_folder_that_holds_none(tmp_path: Path) -> None:
    write(tmp_path / "x" / "a" / "scan.png", "x")
    with pytest.raises(DataError, match="is a folder; it holds no table, and no text files"):
        load_data(tmp_path / "x", TASK)


def test_the_encoding_of_a_folder_and_of_an_adapter_trained_on_it(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "train", "latin-1")
    with pytest.raises(DataError, match=r"0_9\.txt, line 1 \(byte 15\): not UTF-8"):
        load_data(root, TASK)
    data = load_data(root, TASK, files=FileOptions(encoding="latin-1"))
    assert data.inputs[2] == "a fine film, très bien"
    record = TaskRecord(
        name=TASK, labels=list(data.labels), columns=dict(data.columns), files=dict(data.files), preprocessing={}
    )
    again = read_for(record, root, plugins=Plugins(), require_labels=True)
    assert (list(again.inputs), again.targets) == (list(data.inputs), data.targets)
    with pytest.raises(ConfigError, match="--no-header is for CSV and TSV files"):
        load_data(root, TASK, files=FileOptions(no_header=True))
    with pytest.raises(ConfigError, match="--encoding is for text files"):
        load_data(root, "image-classification", files=FileOptions(encoding="latin-1"))


def test_both_go_to_a_file_where_they_are_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = write(tmp_path / "a.txt", "".join(f"{'ab'[i % 2]} text number {i}\n" for i in range(10_000)))
    root = class_folders(tmp_path / "train")
    whole = load_data(lines, TASK, files=LABEL_TEXT), load_data(root, TASK)
    start = Batches.__init__
    monkeypatch.setattr(Batches, "__init__", lambda self, room=None: start(self, 0))
    mapped = load_data(lines, TASK, files=LABEL_TEXT), load_data(root, TASK)
    for one, other in zip(whole, mapped, strict=True):
        assert one.table is not None
        assert other.table is not None
        assert (one.table.mapped, other.table.mapped) == (False, True)
        assert (list(one.inputs), one.targets) == (list(other.inputs), other.targets)
