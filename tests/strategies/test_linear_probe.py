"""The linear probe against scikit-learn, and the translator of a language model against its own objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge as SklearnRidge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from torch import nn
from torch.nn import functional

from adapterhub_linear_probe import LinearProbeConfig, folds as folds_module, rows as rows_module
from adapterhub_linear_probe.classifier import _surely_more
from adapterhub_linear_probe.folds import fold_of_rows
from adapterhub_linear_probe.logistic import Regressions
from adapterhub_linear_probe.ridge import Ridge
from adapterhub_linear_probe.strategy import LinearProbe
from adapterhub_lite.api import DataError, FeatureProblem
from adapterhub_lite.training.config import TrainConfig


@pytest.fixture(scope="session")
def bank_features(load: Any, references: Any, bank: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """MiniLM's mean over real tokens, with transformers alone, for 300 rows of 10 classes of banking77."""
    loaded, data = load(references("minilm")), bank(10, 30)
    assert len(data) == 300
    with torch.no_grad():
        inputs = loaded.tokenizer(list(data.inputs), padding=True, return_tensors="pt")
        hidden, mask = loaded.model(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
    return (hidden * mask).sum(1) / mask.sum(1), torch.tensor(data.targets)


def solve(x: torch.Tensor, y: torch.Tensor, **settings: Any) -> tuple[torch.nn.Linear, Any]:
    head = torch.nn.Linear(x.shape[1], 10)
    problem = FeatureProblem(x, y, 10, head, 0, lambda share, note: None)
    report = LinearProbe().solve(None, LinearProbeConfig(**settings), {}, problem)  # type: ignore[arg-type]
    return head, report


def standardised(x: torch.Tensor) -> tuple[np.ndarray, np.ndarray, float]:
    """Centred, and divided by one number."""
    values = x.double().numpy()
    mean = values.mean(0)
    spread = float(np.sqrt(((values - mean) ** 2).mean()))
    return (values - mean) / spread, mean, spread


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_lbfgs_is_logistic_regression(bank_features: Any, penalty: float) -> None:
    """mean CE + penalty/2 ||W||^2 is scikit-learn's objective with C = 1 / (n penalty)."""
    x, y = bank_features
    z, mean, spread = standardised(x)
    reference = LogisticRegression(C=1 / (len(z) * penalty), tol=1e-8, max_iter=5000).fit(z, y.numpy())
    head, _ = solve(x, y, penalty=penalty)
    probabilities = functional.softmax(head(x), 1).detach().numpy()
    assert np.abs(probabilities - reference.predict_proba(z)).max() < 2e-3
    weight = head.weight.detach().double().numpy() * spread
    bias = head.bias.detach().double().numpy() + weight @ mean / spread
    # In float32 the objective is flat to the eye long before the weights stand still: 1 % is what that leaves.
    assert np.abs(weight - reference.coef_).max() < 1e-2 * np.abs(reference.coef_).max()

    def objective(weight: np.ndarray, bias: np.ndarray) -> float:
        logits = torch.tensor(z @ weight.T + bias)
        return float(functional.cross_entropy(logits, y)) + penalty / 2 * float((weight**2).sum())

    assert objective(weight, bias) == pytest.approx(objective(reference.coef_, reference.intercept_), abs=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 1e-2])
def test_ridge_is_ridge(bank_features: Any, penalty: float) -> None:
    x, y = bank_features
    z, mean, spread = standardised(x)
    signs = np.where(np.eye(10)[y.numpy()] > 0, 1.0, -1.0)
    reference = SklearnRidge(alpha=len(z) * penalty).fit(z, signs)
    head, _ = solve(x, y, penalty=penalty, solver="ridge")
    weight = head.weight.detach().double().numpy() * spread
    np.testing.assert_allclose(weight, reference.coef_, rtol=1e-4, atol=1e-6)
    bias = head.bias.detach().double().numpy() + weight @ mean / spread
    np.testing.assert_allclose(bias, reference.intercept_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head(x).detach().numpy(), reference.predict(z), rtol=1e-3, atol=1e-4)


def test_the_penalty_that_is_chosen_is_a_good_one(bank_features: Any) -> None:
    """Its log loss in scikit-learn's own cross-validation is near that of the best on the grid."""
    x, y = bank_features
    z, _, _ = standardised(x)
    _, report = solve(x, y)
    grid = [3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def loss(penalty: float) -> float:
        model = LogisticRegression(C=1 / (0.8 * len(z) * penalty), max_iter=2000)
        return float(-cross_val_score(model, z, y.numpy(), cv=folds, scoring="neg_log_loss").mean())

    losses = {penalty: loss(penalty) for penalty in grid}
    assert report["cv_score"] == pytest.approx(losses[report["penalty"]], rel=0.15)
    assert losses[report["penalty"]] < 1.1 * min(losses.values())


def test_the_engine_learns_bank_intents(engine: Any, base: Any, bank: Any, bank_features: Any) -> None:
    """Features through the engine are transformers' own, and the head learns what it is shown."""
    loaded, data = base("minilm"), bank(10, 30)
    adapter = engine.train(loaded, data, strategy="linear_probe", settings={"penalty": 1e-3}, hold_out=0)
    mean, labels = bank_features
    features = functional.normalize(mean, dim=1) * 384**0.5  # as MiniLM's own modules.json says
    head, _ = solve(features, labels, penalty=1e-3)
    expected = functional.softmax(head(features), 1)
    probabilities = torch.tensor([list(p.probabilities.values()) for p in adapter.predict(list(data.inputs))])
    torch.testing.assert_close(probabilities, expected.detach(), rtol=0, atol=2e-3)
    assert adapter.evaluate(data).metrics["accuracy"] > 0.95
    adapter.detach()


@pytest.mark.slow
def test_the_translator_lowers_the_loss(engine: Any, base: Any, sums: Any) -> None:
    """A language model's loss falls, and the loss told by evaluation is the one computed by hand."""
    loaded, data = base("smollm2-4"), sums(32)
    adapter = engine.train(
        loaded, data, strategy="linear_probe", settings={"epochs": 4}, config=TrainConfig(epochs=1), eval_data=data
    )
    task, weights = adapter.attachment.task, adapter.attachment.parameters
    encoded = task.encode(data, loaded)
    with adapter.disabled(), torch.no_grad():
        totals = torch.zeros(3)
        for example in encoded.examples:
            batch = task.collate([example], loaded)
            hidden = loaded.model.model(input_ids=batch["input_ids"]).last_hidden_state[0, :-1]
            moved = hidden + hidden @ weights["translator.weight"].T + weights["translator.bias"]
            targets = batch["targets"][0, 1:]
            for i, features in enumerate((hidden, moved)):
                logits = features @ loaded.model.lm_head.weight.T
                totals[i] += functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
            totals[2] += (targets != -100).sum()
    before, after = float(totals[0] / totals[2]), float(totals[1] / totals[2])
    assert adapter.metrics["loss"] == pytest.approx(after, rel=1e-4)
    assert after < before - 0.2
    adapter.detach()


def solved(x: torch.Tensor, y: torch.Tensor, outputs: int, kind: Any, weights: Any = None, **settings: Any) -> Any:
    head = torch.nn.Linear(x.shape[1], outputs)
    problem = FeatureProblem(x, y, outputs, head, 0, lambda share, note: None, kind, weights)
    report = LinearProbe().solve(None, LinearProbeConfig(**settings), {}, problem)  # type: ignore[arg-type]
    return head, report


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Features of very different spread, and what three linear functions of them say with noise. (240, 12), (240, 3)"""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 12, generator=generator) * torch.linspace(0.2, 3, 12) + 5
    scores = (x - 5) @ torch.randn(12, 3, generator=generator) + 2 * torch.randn(240, 3, generator=generator)
    return x, scores


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_labels_are_regressions_of_their_own(drawn: Any, penalty: float, balanced: bool) -> None:
    """scikit-learn's, label by label; balanced counts the rows with a label as much as those without."""
    x, scores = drawn
    y = (scores > torch.tensor([0.0, 2.0, 4.0])).float()
    positive = (len(y) - y.sum(0)) / y.sum(0)
    weights = 1 + y * (positive - 1) if balanced else None
    head, _ = solved(x, y, 3, "labels", weights, penalty=penalty)
    z, _, _ = standardised(x)
    for label in range(3):
        weight = {1: float(positive[label]), 0: 1.0} if balanced else None
        model = LogisticRegression(C=1 / (len(z) * penalty), tol=1e-8, max_iter=5000, class_weight=weight)
        wanted = model.fit(z, y[:, label].numpy()).predict_proba(z)[:, 1]
        assert np.abs(torch.sigmoid(head(x))[:, label].detach().numpy() - wanted).max() < 2e-3


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_balanced_classes_are_those_of_scikit_learn(drawn: Any, penalty: float) -> None:
    x, scores = drawn
    y = (scores + torch.tensor([0.0, 3.0, 8.0])).argmax(1)
    counts = torch.bincount(y)
    assert counts.min() < len(y) / 6, "the classes differ in size"
    weights = (len(y) / (3 * counts.float()))[y]
    head, _ = solved(x, y, 3, "classes", weights, penalty=penalty)
    plain, _ = solved(x, y, 3, "classes", None, penalty=penalty)
    z, _, _ = standardised(x)
    model = LogisticRegression(C=1 / (len(z) * penalty), tol=1e-8, max_iter=5000, class_weight="balanced")
    wanted = model.fit(z, y.numpy()).predict_proba(z)
    probabilities = functional.softmax(head(x), 1).detach().numpy()
    assert np.abs(probabilities - wanted).max() < 2e-3
    assert np.abs(functional.softmax(plain(x), 1).detach().numpy() - wanted).max() > 2e-2


@pytest.mark.parametrize("solver", ["lbfgs", "ridge"])
@pytest.mark.parametrize("penalty", [1.0, 1e-2])
def test_numbers_are_ridge(drawn: Any, penalty: float, solver: str) -> None:
    x, scores = drawn
    head, _ = solved(x, scores, 3, "values", penalty=penalty, solver=solver)
    z, _, _ = standardised(x)
    reference = SklearnRidge(alpha=len(z) * penalty).fit(z, scores.double().numpy())
    np.testing.assert_allclose(head(x).detach().numpy(), reference.predict(z), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["labels", "values", "classes"])
def test_weighted_ridge_counts_rows(drawn: Any, kind: str) -> None:
    x, scores = drawn
    generator = torch.Generator().manual_seed(1)
    z, _, _ = standardised(x)
    if kind == "classes":
        y, weights = scores.argmax(1), torch.rand(240, generator=generator) + 0.1
        signs = functional.one_hot(y, 3).double().numpy() * 2 - 1
        columns = [weights.numpy()] * 3
    else:
        y, weights = scores if kind == "values" else (scores > 0).float(), torch.rand(240, 3, generator=generator) + 0.1
        signs = y.double().numpy() if kind == "values" else y.double().numpy() * 2 - 1
        columns = list(weights.T.numpy())
    head, _ = solved(x, y, 3, kind, weights, penalty=0.1, solver="ridge")
    for output, column in enumerate(columns):
        reference = SklearnRidge(alpha=0.1 * float(column.sum())).fit(z, signs[:, output], sample_weight=column)
        np.testing.assert_allclose(head(x)[:, output].detach().numpy(), reference.predict(z), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_the_penalty_of_labels_and_numbers_is_a_good_one(kind: str) -> None:
    """Its score in scikit-learn's own cross-validation is near that of the best, and far from that of the worst."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(120, 60, generator=generator)
    scores = x @ torch.randn(60, 2, generator=generator) * 0.2 + 2 * torch.randn(120, 2, generator=generator)
    y = (scores > 0).float() if kind == "labels" else scores
    _, report = solved(x, y, 2, kind)
    z, _, _ = standardised(x)

    def loss(penalty: float) -> float:
        strength = 0.8 * len(z) * penalty
        total = 0.0
        for output in range(2):
            model = (
                SklearnRidge(alpha=strength) if kind == "values" else LogisticRegression(C=1 / strength, max_iter=2000)
            )
            scoring = "neg_mean_squared_error" if kind == "values" else "neg_log_loss"
            folds = KFold(5, shuffle=True, random_state=0)
            total -= cross_val_score(model, z, y[:, output].numpy(), cv=folds, scoring=scoring).mean()
        return float(total)

    grid = [3e-2, 1e-2, 3e-3, 1e-3, 1e-4] if kind == "labels" else [1e1, 3.0, 1.0, 1e-1, 1e-2, 1e-4]
    losses = {penalty: loss(penalty) for penalty in grid}
    chosen = losses.get(report["penalty"], loss(report["penalty"]))
    assert chosen < 1.05 * min(losses.values())
    assert chosen < 0.9 * max(losses.values())
    assert report["cv_score"] == pytest.approx(chosen, rel=0.15)


def test_groups_are_kept_in_one_fold() -> None:
    """Rows of a group are copies of one another: folds of rows think that no penalty is needed, folds of groups know better."""
    from adapterhub_linear_probe.folds import _folds_of_groups

    groups = torch.arange(40).repeat_interleave(torch.randint(1, 9, (40,), generator=torch.Generator().manual_seed(0)))
    fold_of = _folds_of_groups(groups, 5, seed=3)
    assert all(len(fold_of[groups == group].unique()) == 1 for group in range(40))
    counts = fold_of.bincount(minlength=5)
    assert int(counts.max() - counts.min()) <= 8  # no more than the largest group
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 20, generator=generator)
    y = x[:, :1] + 2 * torch.randn(30, 1, generator=generator)
    copies = torch.arange(30).repeat_interleave(6)

    def penalty(groups: torch.Tensor | None) -> float:
        head = nn.Linear(20, 1)
        problem = FeatureProblem(
            x[copies], y[copies], 1, head, 0, lambda share, note: None, kind="values", groups=groups
        )  # fmt: skip
        return LinearProbe().solve(None, LinearProbeConfig(), {}, problem)["penalty"]  # type: ignore[arg-type]

    assert penalty(copies) > 3 * penalty(None)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows even of few rows."""
    monkeypatch.setattr(rows_module, "AT_ONCE", 128)


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("kind", ["classes", "labels"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fits_without_a_fold_are_those_of_scikit_learn(
    drawn: Any, small_blocks: None, monkeypatch: pytest.MonkeyPatch, kind: str, turned: bool, weighted: bool
) -> None:
    """Fitted together and along penalties that fall, each is the fit of its own rows; so are its held-out losses."""
    monkeypatch.setattr(rows_module, "AXES", 1024 if turned else 4)
    x, scores = drawn
    y = scores.argmax(1) if kind == "classes" else (scores > 0).float()
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(2)) + 0.5 if weighted else None
    problem = FeatureProblem(x, y, 3, nn.Linear(12, 3), 0, lambda share, note: None, kind, weights)  # type: ignore[arg-type]
    fold_of, held_out = fold_of_rows(problem, 3)
    assert held_out == 3
    axes = rows_module.Axes.of(x)
    rows = rows_module.Rows.of(problem, axes, fold_of)
    together = Regressions(rows, 3, kind == "labels", range(3))
    for penalty in (1e-1, 1e-2):
        together.fit(penalty, 1e-8, 500)
    losses = together.held_out_losses()
    z = standardised(x)[0]
    for fold in range(3):
        seen = (fold_of != fold).numpy()
        weight, bias = axes.unchange(together.points()[fold][:, :-1], together.points()[fold][:, -1])
        logits = functional.linear(x, weight, bias)
        shares = logits.softmax(1) if kind == "classes" else logits.sigmoid()
        expected = np.zeros((len(z), 3))
        for label in range(3 if kind == "labels" else 1):
            column = y if kind == "classes" else y[:, label]
            counts = None if weights is None else (weights if kind == "classes" else weights[:, label]).numpy()[seen]
            model = LogisticRegression(C=1 / (seen.sum() * 1e-2), tol=1e-9, max_iter=5000)
            told = model.fit(z[seen], column.numpy()[seen], sample_weight=counts).predict_proba(z)
            expected[:, slice(None) if kind == "classes" else label] = told if kind == "classes" else told[:, 1]
        assert np.abs(shares.numpy() - expected).max() < 1e-3
        if kind == "classes":
            wanted = -np.log(expected[np.arange(len(z)), y.numpy()])
        else:
            wanted = -(
                np.log(np.where(y.numpy() > 0.5, expected, 1 - expected)) * (weights.numpy() if weighted else 1)
            ).sum(1)
        wanted = wanted * weights.numpy() if weighted and kind == "classes" else wanted
        held = (fold_of == fold)[rows.order]
        np.testing.assert_allclose(losses[held].numpy(), wanted[rows.order[held].numpy()], rtol=2e-2, atol=5e-3)


def test_ridge_without_a_fold_is_ridge_on_the_other_rows(drawn: Any, small_blocks: None) -> None:
    x, scores = drawn
    problem = FeatureProblem(x, scores, 3, nn.Linear(12, 3), 0, lambda share, note: None, "values")
    fold_of, _ = fold_of_rows(problem, 4)
    axes = rows_module.Axes.of(x)
    ridge, z = Ridge(rows_module.Rows.of(problem, axes, fold_of), problem), standardised(x)[0]
    for fold in range(4):
        seen = (fold_of != fold).numpy()
        reference = SklearnRidge(alpha=seen.sum() * 0.1).fit(z[seen], scores.numpy()[seen])
        predicted = functional.linear(x, *axes.unchange(*ridge.fits(fold)(0.1)))
        np.testing.assert_allclose(predicted.numpy(), reference.predict(z), rtol=1e-3, atol=1e-3)


def test_of_many_rows_not_every_fold_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are enough to rank penalties by; rows of groups are not, however many."""
    monkeypatch.setattr(folds_module, "ENOUGH_HELD_OUT", 60)
    y = torch.arange(200) % 4
    problem = FeatureProblem(torch.zeros(200, 3), y, 4, None, 0, lambda share, note: None)
    fold_of, held_out = fold_of_rows(problem, 5)
    assert held_out == 2
    assert int((fold_of < held_out).sum()) >= 60
    assert fold_of_rows(replace(problem, groups=torch.arange(200) % 10), 5)[1] == 5
    assert fold_of_rows(replace(problem, groups=torch.zeros(200, dtype=torch.long)), 5)[1] == 0


def test_the_search_ends_where_a_penalty_is_surely_worse() -> None:
    """Paired over rows, or over groups, whose rows are one observation."""
    differences = torch.linspace(-1, 1.6, 20, dtype=torch.float64)
    copies = differences.repeat_interleave(100)
    assert not _surely_more(differences, None)
    assert _surely_more(copies, None)
    assert not _surely_more(-copies, None)
    assert not _surely_more(copies, torch.arange(20).repeat_interleave(100))


@pytest.mark.parametrize("solver", ["lbfgs", "ridge"])
def test_features_that_are_not_finite_are_refused(solver: str) -> None:
    x = torch.zeros(20, 3)
    x[4, 1] = torch.inf
    with pytest.raises(DataError, match="--dtype float32"):
        solved(x, torch.arange(20) % 2, 2, "classes", solver=solver)
