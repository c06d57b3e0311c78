"""Pairs of texts, numbers to be predicted, and groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.data.splits import split
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_text.columns import Pair
from tests.reading import load_data

TASK = "text-classification"


@pytest.mark.parametrize(
    "names",
    [
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question", "passage"),
        ("text", "text_pair"),
        ("query", "document"),
    ],
)
def test_known_pairs_are_recognised_and_said(names: tuple[str, str]) -> None:
    rows = {names[1]: ["b", "d"], names[0]: ["a", "c"], "label": [0, 1]}
    dataset = load_data(rows, TASK)
    assert list(dataset.inputs) == [Pair("a", "b"), Pair("c", "d")]
    assert dataset.columns == {"text": names[0], "pair": names[1], "label": "label"}
    assert "are read as pairs" in dataset.notes[0]
    alone = load_data(rows, TASK, columns={"text": names[0]})
    assert (list(alone.inputs), alone.notes) == (["a", "c"], alone.notes)
    assert "pair" not in alone.columns


def test_a_pair_by_name() -> None:
    rows = {"text": ["a", "c"], "answer": ["b", "d"], "label": [0, 1]}
    dataset = load_data(rows, TASK, columns={"pair": "answer"})
    assert list(dataset.inputs) == [Pair("a", "b"), Pair("c", "d")]
    assert not any("pairs" in note for note in dataset.notes)
    with pytest.raises(DataError, match="row 2, column 'answer': the second text is empty"):
        load_data({**rows, "answer": ["b", " "]}, TASK, columns={"pair": "answer"})
    with pytest.raises(ConfigError, match="'text' is given both as"):
        load_data(rows, TASK, columns={"text": "text", "pair": "text"})


def regression(values: list[Any], **options: Any) -> Any:
    rows = {"text": [f"text {row}" for row in range(len(values))], "score": values}
    return load_data(rows, "text-regression", **options)


def test_numbers() -> None:
    dataset = regression(["1.5", -2, 3.25, "1e3"])
    assert (dataset.targets, dataset.labels, dataset.form) == ((1.5, -2.0, 3.25, 1000.0), (), None)
    assert dataset.columns == {"text": "text", "target": "score"}
    assert regression([1, None], require_labels=False).targets is None
    assert regression([1, None], columns={"target": "score"}, require_labels=False).notes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, None], "row 2, column 'score': target is missing"),
        ([1.0, float("nan")], "row 2, column 'score': target is missing"),
        ([1.0, float("inf")], "row 2, column 'score': 'inf' is infinite"),
        (["1", "-inf"], "row 2, column 'score': '-inf' is infinite"),
        (["1", "two"], "row 2, column 'score': 'two' is not a number"),
        (["1,5", "2"], "row 1, column 'score': '1,5' is not a number; write 1.5, not 1,5"),
        ([1.0, 1e39], "row 2, column 'score': '1e.39' is infinite or too large"),
        ([True, False], "row 1, column 'score': is True, not a number"),
        ([[1], [2]], "row 1, column 'score': is a list, not a number"),
    ],
)
def test_what_is_no_number(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        regression(values)


def test_groups_are_read_and_kept_together(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    rows = "".join(f"text {i},{i % 2},{i % 10}\n" for i in range(200))
    path.write_text("text,label,company\n" + rows)
    dataset = load_data(path, TASK, columns={"group": "company"})
    assert dataset.groups == tuple(str(i % 10) for i in range(200))
    train, held = split(dataset, 0.2)
    assert train.groups is not None
    assert held.groups is not None
    assert not set(train.groups) & set(held.groups)
    assert (len(train), len(held)) == (160, 40)
    for task in ("causal-lm", "text-regression"):
        columns = {"group": "company", **({"target": "label"} if task == "text-regression" else {})}
        assert load_data(path, task, columns=columns).groups == dataset.groups
    path.write_text("text,label,company\na,0,x\nb,1,\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'company': group is missing"):
        load_data(path, TASK, columns={"group": "company"})
    assert load_data(path, TASK, columns={"group": "company"}, require_labels=False).groups is None
