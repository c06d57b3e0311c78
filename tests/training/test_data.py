"""What a run says and refuses about its data, beyond what reading a file finds."""

from __future__ import annotations

import pytest

from adapterhub_lite.errors import DataError
from adapterhub_lite.tasks.catalog import load_data


@pytest.fixture
def rows(tmp_path):
    def rows(name: str, texts: list[str]) -> str:
        path = tmp_path / name
        lines = [f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(texts)]
        path.write_text("text,label\n" + "".join(lines))
        return str(path)

    return rows


TEXTS = ["one two", "good day", "bad day", "my card"]


def test_evaluating_on_the_training_data_is_warned_of_whatever_the_file_is_called(train, rows):
    data = load_data(rows("train.csv", TEXTS), "text-classification")
    copy = load_data(rows("copy.csv", TEXTS), "text-classification", labels=data.labels)
    other = load_data(rows("other.csv", [*TEXTS[:3], "warm fish"]), "text-classification", labels=data.labels)

    def warned(training, held_out):
        ran = train(data=training, held_out=held_out, steps=1)
        return [line for line in ran.said if line.startswith("warning: the evaluation data")]

    assert len(warned(data, copy)) == 1
    assert not warned(data, other)
    assert not warned(data.select([0, 1]), data.select([2, 3])), "two parts of one file"
    assert len(warned(data.select([0, 1]), data.select([0, 1]))) == 1


def test_a_million_characters_are_cut_counted_and_said(train, rows):
    data = load_data(rows("long.csv", ["one " * 250_000, *TEXTS]), "text-classification")
    ran = train(data=data, steps=1)
    assert "note: 1 of 5 texts are longer than 48 tokens and were cut" in ran.said


def test_one_row_is_refused(rows):
    with pytest.raises(DataError, match="a classifier needs 2 classes"):
        load_data(rows("one.csv", TEXTS[:1]), "text-classification")
