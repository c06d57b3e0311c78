"""Confidence intervals: as scipy computes them, as the normal approximation says, and wider where rows are not independent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, root_mean_squared_error

import adapterhub_lite as ah
from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.progress import Silent
from adapterhub_lite.scoring import metrics
from adapterhub_lite.scoring.metrics import bootstrap, classification_intervals, macro_f1, wilson
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.evaluate import score
from adapterhub_text.tiny import texts


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (1, 3), (93, 100), (2867, 3080)])
def test_wilson_is_scipys(hits, n):
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_the_bootstrap_of_a_mean_is_the_normal_interval():
    values = torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = bootstrap(400, lambda rows: float(values[rows].mean()))
    half = 1.96 * float(values.std()) / 20
    assert low == pytest.approx(float(values.mean()) - half, abs=0.15 * half)
    assert high == pytest.approx(float(values.mean()) + half, abs=0.15 * half)
    assert (low, high) == bootstrap(400, lambda rows: float(values[rows].mean()))


def test_rows_of_a_group_count_as_one_where_they_are_alike():
    means = torch.randn(50, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values, groups = means.repeat_interleave(30), torch.arange(50).repeat_interleave(30).tolist()
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(5))  # groups need not lie together
    values, groups = values[order], [groups[i] for i in order]
    low, high = bootstrap(1500, lambda rows: float(values[rows].mean()), groups)
    half = 1.96 * float(means.std()) / 50**0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    narrow = bootstrap(1500, lambda rows: float(values[rows].mean()))
    assert (high - low) > 4 * (narrow[1] - narrow[0])  # about the root of 30


def test_groups_are_told_by_an_evaluation(references):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"))
    rows = {"text": [f"{word} {i}" for i in range(20) for word in ("good", "bad")], "label": ["a", "b"] * 20}
    rows["label"][8:16] = ["b", "a"] * 4  # one patient is told wrongly
    rows["patient"] = [str(i // 8) for i in range(40)]
    alone = engine.load_data(rows, "text-classification")
    grouped = engine.load_data(rows, "text-classification", columns={"group": "patient"})
    adapter = engine.train(base, alone, strategy="linear_probe")
    one, other = adapter.evaluate(alone), adapter.evaluate(grouped)
    assert one.metrics == other.metrics
    width = [result.intervals["accuracy"][1] - result.intervals["accuracy"][0] for result in (one, other)]
    assert width[0] != width[1]


def test_macro_f1_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(200, 5, generator=generator), torch.randint(4, (200,), generator=generator)
    predicted = logits.argmax(dim=1)
    assert macro_f1(predicted, targets, 5) == pytest.approx(f1_score(targets, predicted, average="macro"))
    low, high = classification_intervals(logits, targets)["macro_f1"]
    assert low < macro_f1(predicted, targets, 5) < high


def test_no_mistakes_in_a_few_groups_is_no_certainty():
    logits, targets = torch.eye(3)[torch.arange(30) % 3], torch.arange(30) % 3
    low, high = classification_intervals(logits, targets, (torch.arange(30) // 5).tolist())["accuracy"]
    assert (low, high) == wilson(30, 30)
    assert low < 0.9


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_intervals_are_worked_out_only_where_they_are_asked_for(model, monkeypatch):
    data = texts() if model == "encoder" else completions()
    adapter = ah.Engine(progress=Silent()).train(tiny_base(model), data, config=ah.TrainConfig(steps=1))
    attachment = adapter.attachment
    encoded = attachment.task.encode(data, attachment.base)
    metrics, intervals = score(attachment, encoded, Silent(), intervals=True)
    assert intervals
    assert intervals == adapter.evaluate(data).intervals

    def drawn(*_):
        raise AssertionError

    monkeypatch.setattr("adapterhub_lite.scoring.metrics.bootstrap", drawn)
    monkeypatch.setattr("adapterhub_lite.training.evaluate.bootstrap", drawn)
    assert score(attachment, encoded, Silent()) == (metrics, {})


def test_intervals_of_several_labels_are_those_of_rows_drawn_and_scored(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)
    random = np.random.default_rng(0)
    true = random.random((60, 4)) < 0.4
    predicted = true ^ (random.random((60, 4)) < 0.2)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(60, (60,), generator=generator).numpy() for _ in range(40)]
    intervals = metrics.labels_intervals(torch.tensor(predicted) * 2.0 - 1, torch.tensor(true).float())
    for average in ("macro", "micro"):
        scores = [f1_score(true[rows], predicted[rows], average=average) for rows in drawn]
        assert intervals[f"{average}_f1"] == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=1e-9)
    right = (true == predicted).all(axis=1)
    wilson = binomtest(int(right.sum()), 60).proportion_ci(method="wilson")
    assert intervals["exact_match"] == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_intervals_of_values_are_those_of_rows_drawn_and_scored(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)
    random = np.random.default_rng(0)
    true = random.normal(50, 9, 60)
    predicted = true + random.normal(1, 5, 60)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(60, (60,), generator=generator).numpy() for _ in range(40)]
    intervals = metrics.values_intervals(torch.tensor(predicted), torch.tensor(true))
    references = {"rmse": root_mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}
    assert intervals.keys() == references.keys()
    for name, reference in references.items():
        scores = [reference(true[rows], predicted[rows]) for rows in drawn]
        assert intervals[name] == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=1e-9)
