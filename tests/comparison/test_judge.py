"""Differences between models on the same rows, beside a naive bootstrap and the exact test of McNemar."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from adapterhub_lite.comparison.judge import FEWEST_APART, Judge
from adapterhub_lite.scoring.metrics import resamples
from adapterhub_lite.tasks.task import Example, Preprocessing

LABELS = ("a", "b", "c")


def classification(targets, groups=None, form=None):
    """A judge of texts with one label each, or with several."""
    from adapterhub_text.classification import TextClassification

    task = TextClassification(LABELS, Preprocessing(pooling="mean", form=form))
    return Judge(task, [Example([1], None, 1, 1.0)] * len(targets), targets, groups)


def saying(classes):
    """Logits that say these classes."""
    return torch.nn.functional.one_hot(torch.tensor(classes), len(LABELS)).float()


def two_models(n, only_first, only_second, both=0.7, seed=0):
    """Targets all 0, and two models of which each alone is right on so many rows."""
    random = np.random.default_rng(seed)
    first, second = (np.ones(n, int) for _ in range(2))
    first[: int(both * n)] = second[: int(both * n)] = 0
    first[int(both * n) :][:only_first] = 0
    second[int(both * n) :][only_first : only_first + only_second] = 0
    order = random.permutation(n)
    return torch.zeros(n, dtype=torch.long), saying(first[order]), saying(second[order])


def test_a_difference_is_that_of_the_scores_with_a_naive_bootstrap_of_the_same_draws():
    targets, first, second = two_models(200, 30, 10)
    judge = classification(targets)
    difference = judge.differences({"first": first, "second": second}, "first")["second"]
    right = [(said.argmax(1) == targets).double() for said in (first, second)]
    drawn = [float((right[1][rows] - right[0][rows]).mean()) for rows in resamples(200)]
    assert difference.value == pytest.approx(-0.1)
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    # Of normal theory for paired shares: 1.96 * sqrt((b + c) / n - ((b - c) / n)^2) / sqrt(n).
    half = 1.96 * ((40 / 200 - 0.01) / 200) ** 0.5
    assert (difference.low, difference.high) == pytest.approx((-0.1 - half, -0.1 + half), abs=0.01)
    assert difference.apart


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(30, 10), (25, 22), (8, 0), (12, 10), (20, 4), (5, 5), (0, 0), (40, 39), (3, 0)]
)
def test_it_agrees_with_the_exact_test_of_mcnemar(only_first, only_second):
    targets, first, second = two_models(200, only_first, only_second, both=0.5)
    apart = classification(targets).differences({"first": first, "second": second}, "first")["second"].apart
    decided = only_first + only_second
    p = binomtest(only_first, decided).pvalue if decided else 1.0
    assert apart == (p < 0.05)


def test_what_five_rows_say_is_chance_whatever_the_bootstrap_says():
    targets, first, second = two_models(5, 5, 0, both=0.0)
    difference = classification(targets).differences({"first": first, "second": second}, "first")["second"]
    assert (difference.low, difference.high) == (-1.0, -1.0)
    assert not difference.apart
    assert binomtest(5, 5).pvalue > 0.05 > binomtest(FEWEST_APART, FEWEST_APART).pvalue


def test_rows_of_one_group_count_once():
    targets, first, second = two_models(200, 30, 10)
    alone = classification(targets).differences({"first": first, "second": second}, "first")["second"]
    copied = [torch.cat([part] * 5) for part in (targets, first, second)]
    groups = list(range(200)) * 5
    grouped = classification(copied[0], groups).differences({"first": copied[1], "second": copied[2]}, "first")[
        "second"
    ]
    as_rows = classification(copied[0]).differences({"first": copied[1], "second": copied[2]}, "first")["second"]
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert as_rows.high - as_rows.low < 0.6 * (grouped.high - grouped.low)


def test_two_groups_do_not_tell_models_apart():
    targets, first, second = two_models(200, 60, 0)
    groups = [row % 2 for row in range(200)]
    assert not classification(targets, groups).differences({"a": first, "b": second}, "a")["b"].apart


def test_macro_f1_of_several_labels_is_that_of_scikit_learn_on_every_draw():
    from sklearn.metrics import f1_score

    random = np.random.default_rng(0)
    targets = torch.tensor(random.integers(0, 2, (60, 3))).float()
    first, second = (torch.tensor(random.normal(0, 1, (60, 3))).float() + targets for _ in range(2))
    judge = classification(targets, form="several")
    assert judge.metric == "macro_f1"
    difference = judge.differences({"first": first, "second": second}, "first")["second"]

    def f1(said, rows):
        return f1_score(targets[rows].numpy(), (said[rows] >= 0).numpy(), average="macro")

    drawn = [f1(second, rows) - f1(first, rows) for rows in resamples(60, times=100)]
    assert difference.value == pytest.approx(f1(second, slice(None)) - f1(first, slice(None)))
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.05)


def test_words_are_drawn_by_sentence():
    from adapterhub_tokens.classification import TokenClassification

    task = TokenClassification(("other", "thing"), Preprocessing(max_length=16))
    examples = [Example(None, None, 1, 1.0, rows=2 + number % 2) for number in range(40)]
    targets = torch.tensor([place % 2 for example in examples for place in range(example.rows)])
    judge = Judge(task, examples, targets)
    right, wrong = (torch.nn.functional.one_hot(said, 2).float() for said in (targets, torch.zeros_like(targets)))
    assert judge.score(right) == 1.0
    rows = torch.tensor([3, 3, 0])  # of 3, 3 and 2 words
    assert judge.score(wrong, rows) == task.metrics(wrong[:8], torch.tensor([0, 1, 0, 0, 1, 0, 0, 1]), 0.0)["macro_f1"]
    assert judge.differences({"right": right, "wrong": wrong}, "right")["wrong"].apart


def test_losses_of_a_language_model_count_tokens():
    from adapterhub_causal_lm.task import CausalLM

    task = CausalLM.__new__(CausalLM)
    examples = [Example(None, None, 1, 1.0, rows=rows) for rows in (1, 3) * 10]
    judge = Judge(task, examples, None)
    sums = torch.tensor([2.0, 3.0] * 10, dtype=torch.float64)
    assert judge.metric == "loss"
    assert judge.score(sums) == pytest.approx(5 / 4)
    assert not judge.higher_is_better
    low, high = judge.interval(sums)
    assert low < 5 / 4 < high
