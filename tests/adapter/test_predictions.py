"""What is predicted as a list, as columns and as a frame; probabilities of classes come where they are asked for."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from adapterhub_lite import Prediction
from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.write import write_rows
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.evaluation import predictions
from adapterhub_lite.evaluation.predictions import Predictions, RowOutputs
from adapterhub_lite.tasks.outputs import ClassColumns, ValuePrediction
from adapterhub_lite.tasks.task import Encoded, Example, Preprocessing
from adapterhub_text.classification import TextClassification


def outputs(n: int = 5, classes: int = 4, form: str | None = None, names: list[str] | None = None) -> RowOutputs:
    task = TextClassification(names or [f"c{i}" for i in range(classes)], Preprocessing(form=form))
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(0)) * 3
    return RowOutputs(task, Encoded([Example([1], None, 1, 1.0)] * n), logits)


def test_predictions_are_a_list_for_whoever_takes_them_as_one() -> None:
    said = outputs().predictions()
    assert isinstance(said, list)
    assert said == list(said)
    assert said[:2] + said[2:] == said
    assert json.dumps([p.label for p in said])
    assert Predictions() == []


def test_the_default_is_the_prediction_and_its_probability() -> None:
    columns = outputs().columns(ClassColumns())
    assert list(columns) == ["prediction", "probability"]
    p = outputs().logits.softmax(dim=1)
    assert columns["prediction"] == [f"c{i}" for i in p.argmax(dim=1).tolist()]
    assert columns["probability"] == pytest.approx(p.max(dim=1).values.tolist(), abs=1e-6)


def test_all_probabilities_are_a_column_a_class() -> None:
    columns = outputs().columns(ClassColumns.parse("all"))
    assert list(columns) == ["prediction", "probability", "p_c0", "p_c1", "p_c2", "p_c3"]
    p = outputs().logits.softmax(dim=1)
    for place in range(4):
        assert columns[f"p_c{place}"][:] == [round(x, 6) for x in p[:, place].double().tolist()]


def test_the_likeliest_are_columns_in_their_order() -> None:
    columns = outputs().columns(ClassColumns.parse("top:3"))
    assert list(columns) == ["prediction", "probability", "top1", "p_top1", "top2", "p_top2", "top3", "p_top3"]
    p, place = outputs().logits.softmax(dim=1).topk(3)
    for rank in range(3):
        assert columns[f"top{rank + 1}"] == [f"c{i}" for i in place[:, rank].tolist()]
        assert columns[f"p_top{rank + 1}"] == pytest.approx(p[:, rank].tolist(), abs=1e-6)
    assert columns["top1"] == columns["prediction"]
    assert list(outputs(classes=2).columns(ClassColumns.parse("top:3")))[-1] == "p_top2"  # as many as there are


def test_several_labels_have_the_probabilities_of_those_that_are_given() -> None:
    given = outputs(form="several")
    columns = given.columns(ClassColumns.parse("all"))
    p = given.logits.sigmoid()
    for row in range(5):
        wanted = [(f"c{i}", pytest.approx(float(p[row, i]), abs=1e-6)) for i in range(4) if p[row, i] >= 0.5]
        assert list(zip(columns["prediction"][row], columns["probability"][row], strict=True)) == wanted
        assert columns["p_c1"][row] == pytest.approx(float(p[row, 1]), abs=1e-6)


def test_a_part_at_a_time_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: values[:] for name, values in outputs(50).columns(ClassColumns.parse("all")).items()}
    monkeypatch.setattr(predictions, "AT_ONCE", 7)
    assert {name: values[:] for name, values in outputs(50).columns(ClassColumns.parse("all")).items()} == whole


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_names_of_the_input_are_kept(tmp_path: Path, suffix: str) -> None:
    """Columns of the input with the names of ours stay, and ours get others."""
    names = ["a", "b"]
    table = read_table({"text": ["x", "y"], "p_a": ["1", "2"], "prediction": ["u", "v"], "p_top1": ["", "w"]})
    said = outputs(2, 2, names=names)
    out = tmp_path / f"out.{suffix}"
    write_rows(out, table, said.columns(ClassColumns.parse("all")))
    back = read_table(out)
    assert back.columns == (*table.columns, "predicted_prediction", "probability", "predicted_p_a", "p_b")
    assert [*map(str, back.column("p_a"))] == ["1", "2"]
    p = said.logits.softmax(dim=1)
    assert [*map(float, back.column("predicted_p_a"))] == pytest.approx(p[:, 0].tolist(), abs=1e-6)


def test_the_default_file_is_small(tmp_path: Path) -> None:
    """150 classes made 29 kB of texts into 2.1 MB of JSON."""
    said = outputs(700, 150)
    table = read_table({"text": [f"a text of forty characters, number {i:05d}" for i in range(700)]})
    write_rows(tmp_path / "out.csv", table, said.columns(ClassColumns()))
    assert (tmp_path / "out.csv").stat().st_size < 50_000
    with (tmp_path / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 700


def test_a_frame_has_the_columns_of_the_file() -> None:
    said = outputs().predictions()
    frame = said.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["prediction", "probability"]
    assert frame["prediction"].tolist() == [p.label for p in said]
    wide = said.to_pandas(probabilities="all")
    assert wide[[f"p_c{i}" for i in range(4)]].sum(axis=1).tolist() == pytest.approx([1] * 5, abs=1e-5)
    assert list(said.to_pandas("top:1").columns) == ["prediction", "probability", "top1", "p_top1"]
    assert Predictions([ValuePrediction(2.5)]).to_pandas()["prediction"].tolist() == [2.5]
    assert len(Predictions().to_pandas()) == 0


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("some", "top", "top:", "top:0", "top:-1", "top:x", "top:1.5", "top:²", "ALL", "top:99999999999"):
        with pytest.raises(ConfigError, match="none, all, or top:N"):
            ClassColumns.parse(text)
    with pytest.raises(NotSupportedError, match="ValuePrediction has no probabilities of classes"):
        Predictions([ValuePrediction(2.5)]).to_pandas("all")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        Predictions([Prediction("a", 1.0, {"a": 1.0})]).to_pandas()


def test_nothing_is_nothing(engine: Any) -> None:
    assert outputs(0).columns(ClassColumns.parse("all")) == {}
