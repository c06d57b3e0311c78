"""Linear classifiers on frozen features: logistic regression by L-BFGS, or ridge by one eigendecomposition."""

from __future__ import annotations

from collections.abc import Callable

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
    x = centred / scale
    report: dict[str, float] = {}
    penalty = config.penalty
    if penalty is None:
        penalty, score = _cross_validate(config, problem, x)
        report["cv_score"] = score
    problem.progress(0.9, "last fit")
    weight, bias = _path(config, x, problem.targets, problem.outputs)(penalty, FIT_ITERATIONS)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - weight @ mean / scale)
    return {"penalty": penalty, **report}


def _cross_validate(config: LinearProbeConfig, problem: FeatureProblem, x: Tensor) -> tuple[float, float]:
    """The penalty of the best score over stratified folds; of equal ones the strongest.

    Penalties are tried from the strongest on, each fit started from the one before, and no further than two past the
    best: what is weaker still takes longest to fit and overfits more.
    """
    penalties = LOGISTIC_PENALTIES if config.solver == "lbfgs" else RIDGE_PENALTIES
    y, classes = problem.targets, problem.outputs
    fold_of = _folds(y, config.folds, problem.seed)
    held_out = [held for held in (fold_of == fold for fold in range(config.folds)) if held.any() and not held.all()]
    paths = [_path(config, x[~held], y[~held], classes) for held in held_out]
    scores: list[float] = []
    for i, penalty in enumerate(penalties):
        total = 0.0
        for fold, held in enumerate(held_out):
            share = (i * len(held_out) + fold) / (len(penalties) * len(held_out))
            problem.progress(0.9 * share, f"trying penalty {penalty:g}, fold {fold + 1} of {len(held_out)}")
            weight, bias = paths[fold](penalty, SEARCH_ITERATIONS)
            logits = functional.linear(x[held], weight, bias)
            if config.solver == "lbfgs":
                total += float(functional.cross_entropy(logits, y[held], reduction="sum"))
            else:
                total += float((logits.argmax(dim=1) != y[held]).sum())
        scores.append(total / len(x))
        if i - scores.index(min(scores)) == 2:
            break
    best = scores.index(min(scores))
    return penalties[best], scores[best]


def _folds(targets: Tensor, folds: int, seed: int) -> Tensor:
    """A fold for each row, every class dealt out evenly. Shape (n,)."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    fold_of = torch.empty(len(targets), dtype=torch.long)
    fold_of[by_class] = torch.arange(len(targets)) % folds
    return fold_of


Fit = Callable[[float, int], tuple[Tensor, Tensor]]


def _path(config: LinearProbeConfig, x: Tensor, y: Tensor, classes: int) -> Fit:
    """A function that fits (weight, bias) for a penalty, reusing what it can of the fits before."""
    return _logistic(x, y, classes) if config.solver == "lbfgs" else _ridge(x, y, classes)


def _logistic(x: Tensor, y: Tensor, classes: int) -> Fit:
    """Multinomial logistic regression by L-BFGS, each fit started from the one before."""
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)

    def fit(penalty: float, iterations: int) -> tuple[Tensor, Tensor]:
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=iterations,
            history_size=10,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            optimizer.zero_grad()
            logits = functional.linear(x, weight, bias)
            loss = functional.cross_entropy(logits, y) + 0.5 * penalty * weight.pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(objective)
        return weight.detach().clone(), bias.detach().clone()

    return fit


def _ridge(x: Tensor, y: Tensor, classes: int) -> Fit:
    """Ridge regression on +-1 targets, for every penalty from one eigendecomposition of the covariance."""
    mean = x.mean(dim=0, keepdim=True)
    targets = functional.one_hot(y, classes).to(torch.float64) * 2 - 1  # (n, classes)
    offset = targets.mean(dim=0)
    z = (x - mean).double()
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))  # (d,), (d, d)
    projected = vectors.T @ (z.T @ (targets - offset)) / len(z)  # (d, classes)

    def fit(penalty: float, iterations: int) -> tuple[Tensor, Tensor]:
        del iterations  # closed form
        weight = (vectors @ (projected / (values.clamp(min=0) + penalty)[:, None])).T.float()  # (classes, d)
        return weight, offset.float() - weight @ mean[0]

    return fit
