"""Linear models on frozen features: logistic regression by L-BFGS, or ridge by one eigendecomposition.

One of several classes is a multinomial regression, any of several labels are regressions independent of each other, and
numbers are always ridge. All outputs share one penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_linear_probe import LinearProbeConfig
from adapterhub_lite.api import FeatureProblem

LOGISTIC_PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
RIDGE_PENALTIES = (1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
# Cross-validation only ranks penalties, and needs no more than this; the last fit runs to convergence.
SEARCH_ITERATIONS, FIT_ITERATIONS = 40, 500


@dataclass(frozen=True)
class Rows:
    """Features with what they should predict, and how much each target counts."""

    x: Tensor  # (n, d)
    y: Tensor  # as in FeatureProblem
    weights: Tensor | None

    def at(self, rows: Tensor) -> Rows:
        """Some of them."""
        return Rows(self.x[rows], self.y[rows], self.weights[rows] if self.weights is not None else None)


def fit_head(config: LinearProbeConfig, problem: FeatureProblem, head: nn.Linear) -> dict[str, float]:
    """Fill in a head.

    Features are centred and divided by one number, their overall spread, so that penalties mean the same for every
    base; both are folded into the head, whose weights do the nearest they can where it has no bias. The objective is the
    mean over the rows of their (weighted) cross-entropy, labels added up, + penalty / 2 * ||W||^2 (lbfgs), or mean
    squared error + penalty * ||W||^2 on numbers and +-1 targets (ridge); biases are not penalised.

    Returns:
        The penalty, and where it was chosen its cross-validated log loss (lbfgs), error rate (ridge) or mean squared
        error (numbers).
    """
    mean = problem.features.mean(dim=0)
    centred = problem.features - mean
    scale = float(centred.pow(2).mean().sqrt().clamp(min=1e-12))
    rows = Rows(centred / scale, problem.targets, problem.weights)
    report: dict[str, float] = {}
    penalty = config.penalty
    if penalty is None:
        penalty, score = _cross_validate(config, problem, rows)
        report["cv_score"] = score
    problem.progress(0.9, "last fit")
    weight, bias = _fit_function(config, rows, problem)(penalty, FIT_ITERATIONS)
    weight, bias = weight / scale, bias - weight @ mean / scale
    with torch.no_grad():
        if head.bias is None:
            weight = weight + bias[:, None] * _constant(problem.features)
        else:
            head.bias.copy_(bias)
        head.weight.copy_(weight)
    return {"penalty": penalty, **report}


def _constant(features: Tensor) -> Tensor:
    """The combination of features that is nearest to 1 on all rows, which stands in for a bias: (d,)."""
    x = features.double()
    squares = x.T @ x / len(x)  # (d, d)
    ridge = 1e-6 * squares.diagonal().mean() * torch.eye(len(squares), dtype=squares.dtype)
    return torch.linalg.solve(squares + ridge, x.mean(dim=0)).float()


def _cross_validate(config: LinearProbeConfig, problem: FeatureProblem, rows: Rows) -> tuple[float, float]:
    """The penalty of the best score over stratified folds, or folds of whole groups; of equal ones the strongest.

    Penalties are tried from the strongest on, each fit started from the one before, and no further than two past the
    best: what is weaker still takes longest to fit and overfits more.
    """
    logistic = _is_logistic(config, problem)
    penalties = LOGISTIC_PENALTIES if logistic else RIDGE_PENALTIES
    if problem.groups is None:
        fold_of = _folds(_order(problem), config.folds, problem.seed)
    else:
        fold_of = _folds_of_groups(problem.groups, config.folds, problem.seed)
    held_out = [held for held in (fold_of == fold for fold in range(config.folds)) if held.any() and not held.all()]
    fits_by_fold = [_fit_function(config, rows.at(~held), problem) for held in held_out]
    scores: list[float] = []
    for i, penalty in enumerate(penalties):
        total = 0.0
        for fold, held in enumerate(held_out):
            share = (i * len(held_out) + fold) / (len(penalties) * len(held_out))
            problem.progress(0.9 * share, f"trying penalty {penalty:g}, fold {fold + 1} of {len(held_out)}")
            weight, bias = fits_by_fold[fold](penalty, SEARCH_ITERATIONS)
            part = rows.at(held)
            logits = functional.linear(part.x, weight, bias)
            total += float(_losses(problem, part, logits) if logistic else _errors(problem, part, logits))
        scores.append(total / len(rows.x))
        if i - scores.index(min(scores)) == 2:
            break
    best = scores.index(min(scores))
    return penalties[best], scores[best]


def _is_logistic(config: LinearProbeConfig, problem: FeatureProblem) -> bool:
    return config.solver == "lbfgs" and problem.kind != "values"


def _losses(problem: FeatureProblem, rows: Rows, logits: Tensor) -> Tensor:
    """The sum of the (weighted) cross-entropies."""
    if problem.kind == "labels":
        return functional.binary_cross_entropy_with_logits(logits, rows.y, weight=rows.weights, reduction="sum")
    if rows.weights is None:
        return functional.cross_entropy(logits, rows.y, reduction="sum")
    return (functional.cross_entropy(logits, rows.y, reduction="none") * rows.weights).sum()


def _errors(problem: FeatureProblem, rows: Rows, predicted: Tensor) -> Tensor:
    """The (weighted) number of wrong decisions; of numbers the sum of squared errors."""
    if problem.kind == "values":
        errors = (predicted - rows.y).pow(2)
    elif problem.kind == "labels":
        errors = ((predicted > 0) != (rows.y > 0.5)).float()
    else:
        errors = (predicted.argmax(dim=1) != rows.y).float()
    return (errors if rows.weights is None else errors * rows.weights).sum()


def _order(problem: FeatureProblem) -> Tensor:
    """What rows are sorted by before they are dealt out to folds: the class, the rarest label, or the number. (n,)"""
    if problem.kind == "classes":
        return problem.targets
    if problem.kind == "values":
        return problem.targets[:, 0]
    rarity = problem.targets.sum(dim=0).argsort().argsort()  # (labels,), 0 for the rarest
    ranks = torch.where(problem.targets > 0.5, rarity, len(rarity))
    return ranks.min(dim=1).values


def _folds(targets: Tensor, folds: int, seed: int) -> Tensor:
    """A fold for each row, every class dealt out evenly. Shape (n,)."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    fold_of = torch.empty(len(targets), dtype=torch.long)
    fold_of[by_class] = torch.arange(len(targets)) % folds
    return fold_of


def _folds_of_groups(groups: Tensor, folds: int, seed: int) -> Tensor:
    """A fold for each row, the groups kept whole: in random order, each into the fold that is smallest so far. (n,)"""
    generator = torch.Generator().manual_seed(seed)
    _, group_of, sizes = groups.unique(return_inverse=True, return_counts=True)
    filled, chosen = [0] * folds, [0] * len(sizes)
    for group in torch.randperm(len(sizes), generator=generator).tolist():
        chosen[group] = filled.index(min(filled))
        filled[chosen[group]] += int(sizes[group])
    return torch.tensor(chosen)[group_of]


Fit = Callable[[float, int], tuple[Tensor, Tensor]]


def _fit_function(config: LinearProbeConfig, rows: Rows, problem: FeatureProblem) -> Fit:
    """A function that fits (weight, bias) for a penalty, reusing what it can of the fits before."""
    if _is_logistic(config, problem):
        return _logistic(rows, problem)
    if problem.kind == "values":
        targets = rows.y.double()
    elif problem.kind == "labels":
        targets = rows.y.double() * 2 - 1
    else:
        targets = functional.one_hot(rows.y, problem.outputs).to(torch.float64) * 2 - 1
    if rows.weights is None or rows.weights.dim() == 1:
        return _ridge(rows.x, targets, rows.weights)
    # Each output has weights of its own, and with them a covariance of its own.
    fits = [_ridge(rows.x, targets[:, [i]], rows.weights[:, i]) for i in range(targets.shape[1])]

    def fit(penalty: float, iterations: int) -> tuple[Tensor, Tensor]:
        weights, biases = zip(*(fit_output(penalty, iterations) for fit_output in fits), strict=True)
        return torch.cat(weights), torch.cat(biases)

    return fit


def _logistic(rows: Rows, problem: FeatureProblem) -> Fit:
    """Logistic regression by L-BFGS, multinomial or one for each label, each fit started from the one before."""
    x, y = rows.x, rows.y
    plain = problem.kind == "classes" and rows.weights is None
    weight = torch.zeros(problem.outputs, x.shape[1], requires_grad=True)
    bias = torch.zeros(problem.outputs, requires_grad=True)

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
            loss = functional.cross_entropy(logits, y) if plain else _losses(problem, rows, logits) / len(x)
            loss = loss + 0.5 * penalty * weight.pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(objective)
        return weight.detach().clone(), bias.detach().clone()

    return fit


def _ridge(x: Tensor, targets: Tensor, weights: Tensor | None) -> Fit:
    """(Weighted) ridge regression, for every penalty from one eigendecomposition of the covariance.

    Args:
        x: (n, d)
        targets: (n, outputs) in double precision.
        weights: (n,) or None; they count as rows do, so that a row of weight 2 is two rows.
    """
    if weights is None:
        mean = x.mean(dim=0, keepdim=True)
        offset = targets.mean(dim=0)
        z = (x - mean).double()
        covariance, products = z.T @ z / len(z), z.T @ (targets - offset) / len(z)
    else:
        share = (weights.double() / weights.double().sum())[:, None]  # (n, 1)
        mean = (x * share).sum(dim=0, keepdim=True).float()
        offset = (targets * share).sum(dim=0)
        z = (x - mean).double()
        covariance, products = (z * share).T @ z, (z * share).T @ (targets - offset)
    values, vectors = torch.linalg.eigh(covariance)  # (d,), (d, d)
    projected = vectors.T @ products  # (d, outputs)

    def fit(penalty: float, iterations: int) -> tuple[Tensor, Tensor]:
        del iterations  # closed form
        weight = (vectors @ (projected / (values.clamp(min=0) + penalty)[:, None])).T.float()  # (outputs, d)
        return weight, offset.float() - weight @ mean[0]

    return fit
