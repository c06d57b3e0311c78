"""New data for a trained adapter is read by the columns of the training data."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterhub_lite.adapter.read import read_for
from adapterhub_lite.errors import DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.storage.manifest import TaskRecord

CLAUSES = TaskRecord(
    name="text-classification", labels=["fair", "unfair"], columns={"text": "clause", "label": "verdict"}, preprocessing={}
)  # fmt: skip
ROWS = "clause,note,verdict,text\nwe may end this at any time,a,unfair,x\nyou may leave,b,fair,y\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_as_in_training_though_another_column_has_the_usual_name(file: Path) -> None:
    data = read_for(CLAUSES, file, plugins=Plugins(), require_labels=True)
    assert list(data.inputs) == ["we may end this at any time", "you may leave"]
    assert list(data.targets or ()) == [1, 0]


def test_a_column_that_is_named_replaces_its_own_role_alone(file: Path) -> None:
    data = read_for(CLAUSES, file, columns={"text": "note"}, plugins=Plugins(), require_labels=True)
    assert list(data.inputs) == ["a", "b"]
    assert list(data.targets or ()) == [1, 0], "'verdict', which no guess would find"


def test_guessed_where_the_input_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("text,label\nyou may leave,fair\n", encoding="utf-8")
    assert list(read_for(CLAUSES, path, plugins=Plugins(), require_labels=True).targets or ()) == [0]


def test_a_label_that_was_not_learnt(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("clause,verdict\nyou may leave,maybe\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"other\.csv.*maybe"):
        read_for(CLAUSES, path, plugins=Plugins(), require_labels=True)
