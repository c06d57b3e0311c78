"""Words with tags: lists, and CoNLL files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.tasks.catalog import Catalog, read_data

TASK = "token-classification"
CATALOG = Catalog(Plugins())
CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC

# text = Peter Blackburn
Peter\tNNP\tB-NP\tB-PER
Blackburn\tNNP\tI-NP\tI-PER
# NNP O O

"""


def load(source: Any, **options: Any) -> Dataset:
    return read_data(CATALOG, source, TASK, **options)


def test_a_conll_file(tmp_path: Path) -> None:
    path = tmp_path / "ner.conll"
    path.write_text(CONLL)
    dataset = load(path)
    assert list(dataset.inputs) == [["EU", "rejects", "German"], ["Peter", "Blackburn", "#"]]
    named = [[dataset.labels[i] for i in target] for target in dataset.targets or ()]
    assert named == [["B-ORG", "O", "B-MISC"], ["B-PER", "I-PER", "O"]]
    assert dataset.table is not None
    assert dataset.table.where(1).endswith("row 2 (line 8)")
    assert dataset.notes == (f"{path}: 1 line beginning with # skipped", "columns that are not used: field_2, field_3")
    chunks = load(path, columns={"tags": "field_3"})
    assert set(chunks.labels) == {"B-NP", "B-VP", "I-NP", "O"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb\n", r"row 1 \(line 2\): has 1 field where the lines before have 2"),
        ("a O\n\nb O\nc O x\n", r"row 2 \(line 4\): has 3 fields where the lines before have 2"),
        ("a\tO\n\tO\n", r"row 1 \(line 2\): has an empty field"),
        ("\n\n-DOCSTART- O\n", "holds no sentences"),
        ("a\nb\n", "cannot tell which column holds the tags"),
        ("a O\nb O\n", "every word has the tag 'O'"),
    ],
)
def test_broken_conll_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.iob"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load(path)


def test_lists_in_files_and_in_memory(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset as Hub, Features, Sequence, Value

    words, tags = [["a", "b"], ["c"]], [["O", "B-X"], ["O"]]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"words": w, "ner_tags": t}) for w, t in zip(words, tags, strict=True)))
    csv = tmp_path / "rows.csv"
    csv.write_text("tokens,tags\n" + '"[""a"", ""b""]","[\'O\', \'B-X\']"\n"[\'c\']","[""O""]"\n')
    names = ClassLabel(names=["O", "B-X", "I-X"])
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(names)})
    hub = Hub.from_dict({"tokens": words, "ner_tags": [[0, 1], [0]]}, features=features)
    for source in (path, csv, hub):
        dataset = load(source)
        assert list(dataset.inputs) == words
        assert [[dataset.labels[i] for i in target] for target in dataset.targets or ()] == tags
    assert load(hub).labels == ("O", "B-X")


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a"], ["O", "X"], "row 2, column 'tags': has 2 tags for 1 word"),
        (["a", ""], ["O", "X"], "row 2, column 'tokens': word 2 is empty"),
        (["a", 3], ["O", "X"], "row 2, column 'tokens': word 2 is '3', not a word"),
        (["a", "b"], ["O", None], "row 2, column 'tags', word 2: tag is missing"),
        ([], [], "row 2, column 'tokens': holds no words"),
        ("a b", ["O", "X"], "row 2, column 'tokens': is of type str, not a list of words"),
    ],
)
def test_bad_rows(words: Any, tags: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load([{"tokens": ["x"], "tags": ["O"]}, {"tokens": words, "tags": tags}])


def test_tags_of_an_adapter() -> None:
    rows = [{"tokens": ["x", "y"], "tags": ["O", "B-LOC"]}]
    assert load(rows, labels=["B-LOC", "O"]).targets == ((1, 0),)
    with pytest.raises(DataError, match=r"row 1, column 'tags', word 2: tag 'B-LOC' is not one.*did you mean 'B-LOK'"):
        load(rows, labels=["O", "B-LOK"])
    predicted = load(rows, labels=["O", "B-LOK"], require_labels=False)
    assert (predicted.targets, predicted.labels) == (None, ("O", "B-LOK"))
