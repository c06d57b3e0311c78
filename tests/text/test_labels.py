"""Any number of labels a row, in all the ways in which people write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, DataError
from tests.reading import load_data

TASK = "text-classification"
ROWS = [["b", "a"], [], ["c"], ["a", "c"]]
NAMES, TARGETS = ("a", "b", "c"), ((0, 1), (), (2,), (0, 2))


def load(cells: list[Any], **options: Any) -> Dataset:
    rows = {"text": [f"text {row}" for row in range(len(cells))], "tags": cells}
    return load_data(rows, TASK, columns={"text": "text", "labels": "tags"}, **options)


@pytest.mark.parametrize(
    "labels",
    [
        ROWS,
        [row or None for row in ROWS],
        [json.dumps(row) for row in ROWS],
        [str(row) for row in ROWS],
        ["b|a", "", "c", "a|c"],
        ["b;a", None, "c", "a;c"],
        ["b, a", " ", "c ", "a,c"],
        [["b", "a", "b"], [], [" c"], ["a", "", "c"]],
    ],
    ids=["lists", "missing", "json", "python", "bars", "semicolons", "commas", "untidy"],
)
def test_the_ways_to_write_labels(labels: list[Any]) -> None:
    dataset = load(labels)
    assert (dataset.labels, dataset.targets, dataset.form) == (NAMES, TARGETS, "several")
    assert "column 'tags': 1 of 4 rows have no label" in dataset.notes


def test_a_column_for_each_label(tmp_path: Path) -> None:
    path = tmp_path / "toxic.csv"
    path.write_text("text,toxic,insult,threat\na,1,0,0\nb,0,0,0\nc,True,1.0,FALSE\n")
    columns = {"text": "text", "labels": "toxic, insult,threat"}
    dataset = load_data(path, TASK, columns=columns)
    assert (dataset.labels, dataset.targets) == (("toxic", "insult"), ((0,), (), (0, 1))), "threat has no rows"
    again = load_data(path, TASK, columns=columns, labels=["threat", "insult", "toxic"])
    assert (again.labels, again.targets) == (("threat", "insult", "toxic"), ((2,), (), (1, 2)))
    with pytest.raises(DataError, match="has no column for the label 'rude'"):
        load_data(path, TASK, columns=columns, labels=["rude", "toxic", "insult", "threat"])
    path.write_text("text,toxic,insult\na,1,0\nb,,0\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'toxic': is missing, where 1 or 0 says"):
        load_data(path, TASK, columns={"text": "text", "labels": "toxic,insult"})
    path.write_text("text,toxic,insult\na,1,0\nb,0,0.5\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'insult': is '0.5'"):
        load_data(path, TASK, columns={"text": "text", "labels": "toxic,insult"})


def test_a_column_of_lists_is_recognised(tmp_path: Path) -> None:
    rows = [{"text": f"text {row}", "labels": labels} for row, labels in enumerate(ROWS)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for source in (rows, path, tmp_path / "rows.parquet"):
        dataset = load_data(source, TASK)
        assert (dataset.targets, dataset.form, dataset.columns) == (
            TARGETS,
            "several",
            {"text": "text", "labels": "labels"},
        )
    with pytest.raises(DataError, match=r"row 1.*label is a list.*--column labels=NAME"):
        load_data(rows, TASK, columns={"label": "labels"})


@pytest.mark.parametrize("kind", ["Sequence", "list"])
def test_lists_of_class_labels_of_datasets(tmp_path: Path, kind: str) -> None:
    from datasets import ClassLabel, Dataset as Hub, Features, Sequence, Value

    class_label = ClassLabel(names=["c", "b", "a"])
    features = Features(
        {"text": Value("string"), "labels": Sequence(class_label) if kind == "Sequence" else [class_label]}
    )
    hub = Hub.from_dict({"text": ["x", "y", "z"], "labels": [[2, 0], [], [0]]}, features=features)
    hub.save_to_disk(tmp_path / "hub")
    for source in (hub, tmp_path / "hub"):
        dataset = load_data(source, TASK)
        assert (dataset.labels, dataset.targets) == (("c", "a"), ((0, 1), (), (0,)))


def test_repairs_are_counted() -> None:
    notes = load(["a|b", "a| a", " b", "", "c"]).notes
    assert notes == (
        "column 'tags': labels are taken to be separated by '|' (2 rows)",
        "column 'tags': white space around 1 label removed",
        "column 'tags': 1 row named a label twice, which counts once",
        "column 'tags': 1 of 5 rows have no label",
        "column 'tags': 1 class with a single row: c",
    )
    assert "every row has exactly one label" in " ".join(load(["a", "b", "a", "b"]).notes)


@pytest.mark.parametrize("several", ["a|b", "a; b", "['a', 'b']"])
def test_a_guessed_label_that_looks_like_several_is_said(several: str) -> None:
    rows = {"text": ["x", "y", "z"], "labels": [several, "a", "b"]}
    (note,) = [note for note in load_data(rows, TASK).notes if "--column labels=labels" in note]
    assert f"labels such as {several!r} are taken to be one each" in note
    named = load_data(rows, TASK, columns={"text": "text", "label": "labels"})
    assert not any("--column" in note for note in named.notes)


def test_separators_that_cannot_be_told_apart() -> None:
    with pytest.raises(DataError, match=r"cannot tell what separates.*'\|' in 1 row, ',' in 1 row.*separator=\|"):
        load(["lungs, left|heart", "heart"])
    dataset = load(["lungs, left|heart", "heart"], options={"separator": "|"})
    assert dataset.labels == ("heart", "lungs, left")
    assert load(["a b", "b"], options={"separator": " "}).targets == ((0, 1), (1,))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["['a' 'b']", "['a']"], r"row 1, column 'tags': \"\['a' 'b'\]\" is not a list of labels"),
        (["[a, b]", "[a]"], "row 1, column 'tags': '.a, b.' is not a list"),
        ([["a"], [0.5]], "row 2, column 'tags': label 0.5 is not a whole number"),
        ([["a"], [["b"]]], "row 2, column 'tags': label is a list"),
        ([["a"], [None]], "row 2, column 'tags': label is missing"),
        ([[], []], "no row has a label"),
        (["a|b", "b|a"], "every row has the same labels"),
    ],
)
def test_what_is_refused(labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(labels)


def test_an_adapter_knows_its_labels() -> None:
    known = ["c", "a", "b"]
    assert load(ROWS, labels=known).targets == ((1, 2), (), (0,), (0, 1))
    with pytest.raises(DataError, match=r"row 2, column 'tags': label 'bb' is not one the adapter knows.*did you mean"):
        load([["a"], ["bb"]], labels=known)
    assert load([["a"], ["bb"]], labels=known, require_labels=False).targets is None
    both = {"text": ["x", "y"], "label": ["a", "b"], "labels": [["a"], ["b"]]}
    with pytest.raises(ConfigError, match="not both"):
        load_data(both, TASK, columns={"label": "label", "labels": "labels"})


def test_real_contracts(shared: Path) -> None:
    path = shared / "data" / "unfair_tos" / "unfair_tos_en.tsv"
    dataset = load_data(path, TASK, columns={"text": "text", "labels": "labels", "group": "company"})
    assert dataset.labels == ("a", "ch", "cr", "j", "law", "ltd", "pinc", "ter", "use")
    assert dataset.targets is not None
    assert dataset.groups is not None
    by_hand = [line.split("\t")[4] for line in path.read_text(encoding="utf-8").splitlines()[1:3000]]
    named = [{dataset.labels[i] for i in target} for target in dataset.targets[: len(by_hand)]]
    # Rows of the file with line breaks inside quotes would shift the lines; there are none among these.
    assert named == [set(filter(None, cell.split("|"))) for cell in by_hand]
    assert sum(not target for target in dataset.targets) == 16009
    assert len(set(dataset.groups)) == 50
