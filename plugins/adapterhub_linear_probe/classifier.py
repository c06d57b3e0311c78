"""Linear classifiers on frozen features: logistic regression by L-BFGS, or ridge by one eigendecomposition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_linear_probe import LinearProbeConfig
from adapterhub_lite.api import FeatureProblem

LOGISTIC_PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
RIDGE_PENALTIES = (1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
# Cross-validation only ranks penalties, and needs no more than this; the last fit runs to convergence.
SEARCH_ITERATIONS, FIT_ITERATIONS = 40, 500


def fit_classifier(config: LinearProbeConfig, problem: FeatureProblem, head: nn.Linear) -> dict[str, float]:
    """Fill in a head.

    Features are centred and divided by one number, their overall spread, so that penalties mean the same for every
    base; both are folded into the head. The objective is mean cross-entropy + penalty / 2 * ||W||^2 (lbfgs), or
    mean squared error + penalty * ||W||^2 on +-1 targets (ridge); biases are not penalised.

    Returns:
        The penalty, and where it was chosen its cross-validated log loss (lbfgs) or error rate (ridge).
    """
    mean = problem.features.mean(dim=0)
    centred = problem.features - mean
    scale = float(centred.pow(2).mean().sqrt().clamp(min=1e-12))
    x, y = centred / scale, problem.targets
    fit = _logistic if config.solver == "lbfgs" else _ridge
    report: dict[str, float] = {}
    penalty = config.penalty
    if penalty is None:
        penalty, score = _cross_validate(config, problem, x)
        report["cv_score"] = score
    problem.progress(0.9, "last fit")
    weight, bias = fit(x, y, problem.outputs, [penalty], FIT_ITERATIONS)[0]
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - weight @ mean / scale)
    return {"penalty": penalty, **report}


def _cross_validate(config: LinearProbeConfig, problem: FeatureProblem, x: Tensor) -> tuple[float, float]:
    """The penalty of the best score over stratified folds; of equal ones the strongest."""
    penalties = LOGISTIC_PENALTIES if config.solver == "lbfgs" else RIDGE_PENALTIES
    fit = _logistic if config.solver == "lbfgs" else _ridge
    fold_of = _folds(problem.targets, config.folds, problem.seed)
    totals = torch.zeros(len(penalties), dtype=torch.float64)
    for fold in range(config.folds):
        problem.progress(0.9 * fold / config.folds, f"choosing the penalty, fold {fold + 1} of {config.folds}")
        held = fold_of == fold
        if not held.any() or held.all():
            continue
        models = fit(x[~held], problem.targets[~held], problem.outputs, penalties, SEARCH_ITERATIONS)
        for i, (weight, bias) in enumerate(models):
            logits = functional.linear(x[held], weight, bias)
            if config.solver == "lbfgs":
                totals[i] += functional.cross_entropy(logits, problem.targets[held], reduction="sum")
            else:
                totals[i] += (logits.argmax(dim=1) != problem.targets[held]).sum()
    best = int(totals.argmin())
    return penalties[best], float(totals[best]) / len(x)


def _folds(targets: Tensor, folds: int, seed: int) -> Tensor:
    """A fold for each row, every class dealt out evenly. Shape (n,)."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    fold_of = torch.empty(len(targets), dtype=torch.long)
    fold_of[by_class] = torch.arange(len(targets)) % folds
    return fold_of


def _logistic(
    x: Tensor, y: Tensor, classes: int, penalties: Sequence[float], iterations: int
) -> list[tuple[Tensor, Tensor]]:
    """Multinomial logistic regression for each penalty, strongest first, each started from the one before."""
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    models = []
    for penalty in penalties:
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=iterations,
            history_size=10,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )

        def objective(penalty: float = penalty, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            logits = functional.linear(x, weight, bias)
            loss = functional.cross_entropy(logits, y) + 0.5 * penalty * weight.pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(objective)
        models.append((weight.detach().clone(), bias.detach().clone()))
    return models


def _ridge(
    x: Tensor, y: Tensor, classes: int, penalties: Sequence[float], iterations: int
) -> list[tuple[Tensor, Tensor]]:
    """Ridge regression on +-1 targets for each penalty, all from one eigendecomposition of the covariance."""
    del iterations  # closed form
    mean = x.mean(dim=0, keepdim=True)
    targets = functional.one_hot(y, classes).to(torch.float64) * 2 - 1  # (n, classes)
    offset = targets.mean(dim=0)
    z = (x - mean).double()
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))  # (d,), (d, d)
    projected = vectors.T @ (z.T @ (targets - offset)) / len(z)  # (d, classes)
    models = []
    for penalty in penalties:
        weight = (vectors @ (projected / (values.clamp(min=0) + penalty)[:, None])).T.float()  # (classes, d)
        models.append((weight, offset.float() - weight @ mean[0]))
    return models
