"""Linear models on frozen features: logistic regression, or ridge; the penalty chosen by cross-validation.

One of several classes is a multinomial regression, any of several labels are regressions independent of each other, and
numbers are always ridge. All outputs share one penalty.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from adapterhub_linear_probe import LinearProbeConfig
from adapterhub_linear_probe.folds import fold_of_rows
from adapterhub_linear_probe.logistic import FIT_ROUNDS, FIT_TOLERANCE, SEARCH_ROUNDS, SEARCH_TOLERANCE, Regressions
from adapterhub_linear_probe.ridge import Ridge
from adapterhub_linear_probe.rows import AT_ONCE, Axes, Rows
from adapterhub_lite.api import FeatureProblem

LOGISTIC_PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
RIDGE_PENALTIES = (1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
SURELY = 3.0
"""Standard errors by which a penalty is surely worse than another."""


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
    axes = Axes.of(problem.features)
    folds, held_out = torch.zeros(len(problem.features), dtype=torch.long), 0
    if config.penalty is None:
        folds, held_out = fold_of_rows(problem, config.folds)
    rows = Rows.of(problem, axes, folds)
    if config.solver == "lbfgs" and problem.kind != "values":
        penalty, score, point = _logistic(config.penalty, problem, rows, held_out)
        weight, bias = point[:, :-1].cpu(), point[:, -1].cpu()
    else:
        penalty, score, (weight, bias) = _ridge(config.penalty, problem, rows, held_out)
    weight, bias = axes.unchange(weight, bias)
    with torch.no_grad():
        if head.bias is None:
            weight = weight + bias[:, None] * _constant(problem.features)
        else:
            head.bias.copy_(bias)
        head.weight.copy_(weight)
    return {"penalty": penalty} if score is None else {"penalty": penalty, "cv_score": score}


def _logistic(
    penalty: float | None, problem: FeatureProblem, rows: Rows, held_out: int
) -> tuple[float, float | None, Tensor]:
    """The penalty, its score where it was chosen, and the point that fits all rows."""
    several, score = problem.kind == "labels", None
    last = Regressions(rows, problem.outputs, several, [None])
    if penalty is None:
        apart = Regressions(rows, problem.outputs, several, range(held_out))
        starts: dict[float, Tensor] = {}

        def losses(penalty: float) -> Tensor:
            apart.fit(penalty, SEARCH_TOLERANCE, SEARCH_ROUNDS)
            starts[penalty] = apart.points().mean(dim=0)
            return apart.held_out_losses()

        penalty, score = _choose(LOGISTIC_PENALTIES, losses, problem, rows, held_out)
        if held_out:
            last.start(starts[penalty])
    problem.progress(0.9, "last fit")
    last.fit(penalty, FIT_TOLERANCE, FIT_ROUNDS)
    return penalty, score, last.points()[0]


def _ridge(
    penalty: float | None, problem: FeatureProblem, rows: Rows, held_out: int
) -> tuple[float, float | None, tuple[Tensor, Tensor]]:
    """The penalty, its score where it was chosen, and the weights and biases that fit all rows."""
    ridge, score = Ridge(rows, problem), None
    if penalty is None:
        apart = [ridge.fits(fold) for fold in range(held_out)]

        def errors(penalty: float) -> Tensor:
            return ridge.held_out_errors([fit(penalty) for fit in apart])

        penalty, score = _choose(RIDGE_PENALTIES, errors, problem, rows, held_out)
    problem.progress(0.9, "last fit")
    return penalty, score, ridge.fits(None)(penalty)


def _choose(
    penalties: tuple[float, ...],
    losses_with: Callable[[float], Tensor],
    problem: FeatureProblem,
    rows: Rows,
    held_out: int,
) -> tuple[float, float]:
    """The penalty of the best mean loss on rows held out, and that; of equal ones the strongest.

    Penalties are tried from the strongest on, and no further than two past the best, or one that is surely worse: what is
    weaker still takes longest to fit and overfits more.
    """
    count = sum(rows.sizes[:held_out])
    if not count:
        return penalties[0], 0.0
    groups = problem.groups[rows.order][:count] if problem.groups is not None else None
    best, best_losses = penalties[0], torch.full((count,), math.inf)
    past = 0
    for i, penalty in enumerate(penalties):
        problem.progress(0.9 * i / len(penalties), f"trying penalty {penalty:g}")
        losses = losses_with(penalty)[:count].double()
        if losses.sum() < best_losses.sum():
            best, best_losses, past = penalty, losses, 0
        else:
            past += 1
            if past == 2 or _surely_more(losses - best_losses, groups):
                break
    return best, float(best_losses.mean())


def _surely_more(differences: Tensor, groups: Tensor | None) -> bool:
    """Whether paired differences are above zero by more than chance; rows of a group count as one."""
    if groups is not None:
        _, places = groups.unique(return_inverse=True)
        differences = torch.zeros(int(places.max()) + 1, dtype=differences.dtype).index_add_(0, places, differences)
    error = float(differences.std()) * math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return float(differences.sum()) > SURELY * error


def _constant(features: Tensor) -> Tensor:
    """The combination of features that is nearest to 1 on all rows, which stands in for a bias: (d,)."""
    n, d = features.shape
    squares, sums = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    for part in features.split(AT_ONCE):
        wide = part.double()
        squares += wide.T @ wide / n
        sums += wide.sum(dim=0)
    ridge = 1e-6 * squares.diagonal().mean() * torch.eye(d, dtype=squares.dtype)
    return torch.linalg.solve(squares + ridge, sums / n).float()
