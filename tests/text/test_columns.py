"""Labelled texts: which columns, which classes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, DataError
from tests.reading import load_data

TASK = "text-classification"
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def load(source: Any, **options: Any) -> Dataset:
    return load_data(source, TASK, **options)


def table(*labels: Any) -> dict[str, list[Any]]:
    return {"text": [f"text {index}" for index in range(len(labels))], "label": list(labels)}


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["text", "category"], {}, {"text": "text", "label": "category"}),
        (["id", "Sentence ", "INTENT"], {}, {"text": "Sentence ", "label": "INTENT"}),
        (["text", "what"], {}, {"text": "text", "label": "what"}),
        (["what", "label"], {}, {"text": "what", "label": "label"}),
        (["a", "text", "b"], {"columns": {"label": "b"}}, {"text": "text", "label": "b"}),
        (["text", "label", "b"], {"columns": {"text": "label", "label": "b"}}, {"text": "label", "label": "b"}),
        (["anything"], {"require_labels": False}, {"text": "anything"}),
        (["text", "what"], {"require_labels": False}, {"text": "text"}),
    ],
)
def test_columns_are_guessed_and_said(names: list[str], options: dict[str, Any], expected: dict[str, str]) -> None:
    assert load({name: ["x", "y"] for name in names}, **options).columns == expected


def test_two_unnamed_columns_are_told_apart_by_their_words() -> None:
    dataset = load({"c1": ["yes", "no"], "c2": ["a long piece of text", "another piece of text"]})
    assert dataset.columns == {"text": "c2", "label": "c1"}
    with pytest.raises(DataError, match=r"cannot tell which column is the text.*--text-column.*: c1, c2"):
        load({"c1": ["yes", "no"], "c2": ["up", "down"]})


@pytest.mark.parametrize(
    ("labels", "names", "targets"),
    [
        (["b", "a", "b"], ("a", "b"), (1, 0, 1)),
        ([10, 9, 10], ("9", "10"), (1, 0, 1)),
        (["10", "9", "-1"], ("-1", "9", "10"), (2, 1, 0)),
        (["10", "9", "x"], ("10", "9", "x"), (0, 1, 2)),
        ([True, False], ("False", "True"), (1, 0)),
        ([1, "x"], ("1", "x"), (0, 1)),
    ],
)
def test_labels_become_indices_in_a_settled_order(labels: list[Any], names: tuple[str, ...], targets: Any) -> None:
    dataset = load(table(*labels))
    assert (dataset.labels, dataset.targets) == (names, targets)


def test_known_labels_keep_their_order() -> None:
    dataset = load(table("a", "a"), labels=["c", "a", "b"])
    assert (dataset.labels, dataset.targets) == (("c", "a", "b"), (1, 1))


def test_an_unknown_label_names_its_row_and_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "eval.csv"
    path.write_text('text,label\n"one\nline",class_1\ntwo,clas_2\n')
    known = [f"class_{index}" for index in range(20)]
    with pytest.raises(DataError) as caught:
        load(path, labels=known)
    message = str(caught.value)
    assert message.startswith(f"{path}, row 2 (line 4), column 'label': label 'clas_2' is not one the adapter knows")
    assert "did you mean 'class_2'" in message
    assert message.endswith("class_11, ... (20 in all)")
    predicted = load(path, labels=known, require_labels=False)
    assert predicted.targets is None
    assert predicted.labels == tuple(known)
    assert "row 2 (line 4)" in predicted.notes[0]


def test_white_space_case_and_single_rows_are_told() -> None:
    dataset = load(table(" yes", "yes", "Yes", "no", "no"))
    assert dataset.labels == ("Yes", "no", "yes")
    assert dataset.notes == (
        "column 'label': white space around 1 label removed",
        "column 'label': 1 class with a single row: Yes",
        "column 'label': labels 'Yes' and 'yes' differ only in case, and are kept apart (1 such)",
    )
    assert "is it an identifier" in load(table("a", "b", "c")).notes[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("caf\u00e9", "cafe\u0301"), ("yes", "yes\u200b"), ("very good", "very\u00a0good"), ("\uff59es", "Yes")],
)
def test_labels_that_look_alike_are_told(one: str, other: str) -> None:
    notes = load(table(one, other, "no", one, other, "no")).notes
    (note,) = [note for note in notes if "look alike" in note]
    assert ascii(one) in note
    assert ascii(other) in note
    assert note.isascii()


BAD = [
    ("text,label\na,x\n ,y\n", "row 2 (line 3), column 'text': text is empty"),
    ('text,label\n"a\nb",x\nc,\n', "row 2 (line 4), column 'label': label is missing"),
    ("text,label\na,x\nb,  \n", "row 2 (line 3), column 'label': label is missing"),
    (
        'text,label\na,x\n ,y\nb,x\n"",x\n ,y\n',
        "row 2 (line 3), column 'text': text is empty, as in 2 rows below it; fill",
    ),
    ("text,label\na,x\nb,\nc, \n", "row 2 (line 3), column 'label': label is missing, as in 1 row below it; fill"),
    ("text,label\na,x\nb\0c,y\n", "row 2 (line 3), column 'text': text has a NUL character at position 2"),
    ("text,label\na,x\nb,y\0\n", "row 2 (line 3), column 'label': label contains a NUL"),
    ("text,label\na,x\nb,x\n", "column 'label': every row has label 'x'; a classifier needs 2 classes"),
    (
        "one,two,three\na,x,1\n",
        "cannot tell which column is the text; name one with --text-column (columns={'text': NAME} in Python): one, two",
    ),
    ("text,two,three\na,x,1\n", "cannot tell which column is the label"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_rows_are_refused_by_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load(str(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (table("a", None), "row 2, column 'label': label is missing"),
        (table("a", 0.5), "row 2, column 'label': label 0.5 is not a whole number"),
        (table("a", ["b"]), "row 2, column 'label': label is a list"),
        ({"text": ["a", None], "label": [0, 1]}, "row 2, column 'text': text is missing"),
        ({"text": [1, 2], "label": [0, 1]}, "row 1, column 'text': text is of type int, not text"),
    ],
)
def test_bad_values_in_memory(source: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load(source)
    assert str(caught.value).startswith("<dict of columns>, " + message)


def test_prediction_needs_no_labels() -> None:
    assert load({"text": ["a", "b"]}, require_labels=False).targets is None
    partly = load(table("a", None), require_labels=False)
    assert partly.targets is None
    assert "row 2, column 'label': label is missing" in partly.notes[0]
    assert load(table("a", "b"), require_labels=False).targets == (0, 1)
    with pytest.raises(DataError, match="text is empty"):
        load({"text": ["a", ""]}, require_labels=False)


def test_unknown_columns_roles_and_tasks() -> None:
    with pytest.raises(
        DataError, match=r"has no column 'labell' \(for 'label'\) \(did you mean 'label'\?\); it has text"
    ):
        load(table("a", "b"), columns={"label": "labell"})
    with pytest.raises(ConfigError, match=r"has no 'txt' column \(did you mean 'text'\?\)"):
        load(table("a", "b"), columns={"txt": "text"})
    with pytest.raises(ConfigError, match="'text' is given both as"):
        load(table("a", "b"), columns={"text": "text", "label": "text"})
    with pytest.raises(ConfigError, match="did you mean 'text-classification'"):
        load_data(table("a", "b"), "text-clasification")
    with pytest.raises(ConfigError, match="named twice"):
        load(table("a", "b"), labels=["a", "a"])


def test_a_selection_keeps_rows_labels_and_places(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,x\nb,y\nc,x\nd,y\n")
    whole = load(path)
    part = whole.select([3, 1]).select([0])
    assert (part.inputs, part.targets, part.labels) == (("d",), (1,), ("x", "y"))
    assert part.table is not None
    assert part.table.column("text") == ["d"]
    assert part.table.where(0, "text") == f"{path}, row 4 (line 5), column 'text'"
    assert part.sha256 == whole.sha256


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data not found in {SHARED}")
def test_real_files() -> None:
    train = load(SHARED / "banking77" / "train.csv")
    assert (len(train), len(train.labels), train.notes) == (10003, 77, ())
    assert train.table is not None
    assert train.table.where(10002).endswith("row 10003 (line 10017)")
    assert sum("\n" in text for text in train.inputs) >= 10
    test = load(SHARED / "banking77" / "test.csv", labels=train.labels)
    assert (len(test), test.labels) == (3080, train.labels)
    assert len(load(SHARED / "snips" / "train.tsv").labels) == 7
    terms = load(SHARED / "unfair_tos" / "unfair_tos_en.tsv", columns={"label": "unfair"})
    assert terms.targets is not None
    assert (len(terms), sum(terms.targets)) == (17383, 1374)
