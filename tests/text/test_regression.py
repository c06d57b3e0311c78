"""Numbers for texts: units, scores and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from adapterhub_lite.errors import AdapterCorruptError, DataError
from adapterhub_lite.tasks.regression import standard_units
from adapterhub_lite.tasks.task import Encoded, Preprocessing
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.regression import TextRegression
from tests.reading import load_data


@pytest.fixture(scope="module")
def lengths(shared: Path) -> Any:
    """The first 60 questions of gsm8k, and how many steps their answers take."""
    with (shared / "data" / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(next(file)) for _ in range(60)]
    made = [{"text": row["question"], "target": 1000.0 + row["answer"].count("\n")} for row in rows]
    return load_data(made, "text-regression")


def test_scores_are_in_the_units_of_the_data() -> None:
    task = TextRegression((), Preprocessing(facts={"mean": 50.0, "spread": 10.0}))
    random = np.random.default_rng(0)
    true = random.normal(50, 10, 200)
    predicted = true + random.normal(0, 3, 200)
    logits, targets = (torch.tensor((values - 50) / 10)[:, None] for values in (predicted, true))
    scores = task.metrics(logits, targets, float(task.losses(logits, targets).mean()))
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(true, predicted))
    assert scores["mae"] == pytest.approx(mean_absolute_error(true, predicted))
    assert scores["r2"] == pytest.approx(r2_score(true, predicted))
    assert scores["loss"] == pytest.approx(root_mean_squared_error(true, predicted) ** 2 / 100)
    intervals = task.intervals(logits, targets)
    low, high = intervals["rmse"]
    squares = (predicted - true) ** 2
    # The delta method: the standard error of sqrt(m) is that of m over 2 sqrt(m).
    error = squares.std() / np.sqrt(200) / (2 * scores["rmse"])
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert low < scores["rmse"] < high
    assert [p.value for p in task.predictions(logits, Encoded([]))] == pytest.approx(predicted.tolist())


def test_a_probe_is_ridge_in_standard_units(engine: Any, base: Any, lengths: Any) -> None:
    """Through the engine, against transformers' features and scikit-learn's ridge on the raw targets."""
    loaded = base("minilm")
    plain = {"normalize": False}
    adapter = engine.train(
        loaded, lengths, strategy="linear_probe", settings={"penalty": 0.1}, task_options=plain
    )  # fmt: skip
    task = adapter.attachment.task
    values = np.asarray(lengths.targets)
    assert task.preprocessing.facts == pytest.approx({"mean": values.mean(), "spread": values.std()})
    with torch.no_grad():
        inputs = loaded.tokenizer(list(lengths.inputs), padding=True, return_tensors="pt")
        hidden, mask = loaded.model(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
    x = ((hidden * mask).sum(1) / mask.sum(1)).double().numpy()
    x = (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean())
    reference = Ridge(alpha=len(x) * 0.1).fit(x, values)
    predicted = np.asarray([p.value for p in adapter.predict(list(lengths.inputs))])
    np.testing.assert_allclose(predicted, reference.predict(x), atol=2e-3)
    scores = adapter.evaluate(lengths)
    assert scores.metrics["rmse"] == pytest.approx(root_mean_squared_error(values, reference.predict(x)), rel=1e-3)
    adapter.detach()


def test_other_targets_are_other_features_in_the_cache(engine: Any, base: Any, lengths: Any) -> None:
    """Targets that agree in their whole part only, and in mean and spread, are told apart."""
    loaded, texts = base("minilm"), list(lengths.inputs[:4])
    for values in ([1.2, 1.4, 1.6, 1.8], [1.8, 1.6, 1.4, 1.2]):
        data = load_data({"text": texts, "target": values}, "text-regression")
        adapter = engine.train(loaded, data, strategy="linear_probe", settings={"penalty": 1e-4})
        predicted = [p.value for p in adapter.predict(texts)]
        adapter.detach()
        assert np.corrcoef(predicted, values)[0, 1] > 0.9


def test_it_is_learnt_saved_and_loaded(engine: Any, base: Any, lengths: Any, tmp_path: Path) -> None:
    loaded = base("tiny-bert")
    rows = {"text": ["good card"] * 8 + ["bad bank"] * 8, "target": [1e6 + 3.0] * 8 + [1e6 - 3.0] * 8}
    data = load_data(rows, "text-regression")
    config = TrainConfig(steps=60, batch_size=8, learning_rate=5e-3)
    adapter = engine.train(loaded, data, eval_data=data, strategy="lora", config=config)
    assert adapter.metrics["rmse"] < 1.0
    assert adapter.metrics["r2"] > 0.9
    said = [p.value for p in adapter.predict(["good card", "bad bank"])]
    assert said == pytest.approx([1e6 + 3.0, 1e6 - 3.0], abs=1.0)
    adapter.save(tmp_path / "numbers")
    adapter.detach()
    again = engine.load_adapter(tmp_path / "numbers", base=loaded)
    assert [p.value for p in again.predict(["good card", "bad bank"])] == said
    again.detach()


def test_what_has_no_spread_is_refused(engine: Any, base: Any) -> None:
    data = load_data({"text": ["a", "b"], "target": [3, 3]}, "text-regression")
    with pytest.raises(DataError, match="every target is 3, so that there is nothing to learn"):
        engine.task_for(base("tiny-bert"), data)
    bare = load_data({"text": ["a", "b"]}, "text-regression", require_labels=False)
    with pytest.raises(DataError, match="has no targets to learn from"):
        standard_units(bare)


@pytest.mark.parametrize("facts", [{}, {"mean": 0.0}, {"mean": 0.0, "spread": 0.0}, {"mean": "x", "spread": 1.0}])
def test_forged_units_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(AdapterCorruptError, match=r"preprocessing\.facts"):
        TextRegression((), Preprocessing(facts=facts))
