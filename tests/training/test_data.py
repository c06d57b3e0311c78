"""What a run says and refuses about its data, beyond what reading a file finds."""

from __future__ import annotations

import pytest

from adapterhub_lite.data.splits import split
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import DataError, TrainingError
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from tests.listening import Listening
from tests.reading import load_data


@pytest.fixture
def rows(tmp_path):
    def rows(name: str, texts: list[str]) -> str:
        path = tmp_path / name
        lines = [f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(texts)]
        path.write_text("text,label\n" + "".join(lines))
        return str(path)

    return rows


@pytest.fixture
def file(rows):
    """Sixteen rows, no two of them alike."""
    return rows("data.csv", [f"{text} {i}" for i, text in enumerate(TEXTS * 4)])


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


def test_evaluation_rows_that_were_trained_on_are_counted(train, file):
    data = load_data(file, "text-classification")
    ran = train(data=data.select(range(6)), held_out=data, steps=1)
    assert len([line for line in ran.said if line.startswith("warning: the evaluation data") and "6 rows" in line]) == 1
    ran = train(data=data.select(range(6)), held_out=data.select(range(6, 16)), steps=1)
    assert not [line for line in ran.said if line.startswith("warning")]


@pytest.mark.parametrize("names", [False, True])
def test_the_rows_of_a_bad_step_are_counted_as_in_the_file(names, file, monkeypatch):
    engine = Engine(progress=Listening())
    data = engine.load_data(file, "text-classification", options={"learn_names": names})
    part, _ = split(data, 0.5, seed=0)
    task = type(engine.task_for(tiny_base("encoder"), data))
    losses = task.losses
    monkeypatch.setattr(task, "losses", lambda self, logits, targets: losses(self, logits, targets) * float("nan"))
    config = TrainConfig(steps=2, batch_size=32)
    with pytest.raises(TrainingError):
        engine.train(tiny_base("encoder"), part, config=config)
    (first, *_) = [line for line in engine.progress.lines if "not applied" in line]
    named = first.partition("rows ")[2].split(", ")
    rows = {str(row + 1) for row in part.table.rows}
    assert set(named) - {"(name of a class)"} <= rows
    assert names or set(named) == rows
