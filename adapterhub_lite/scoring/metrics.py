"""Scores of predictions, and confidence intervals of the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from adapterhub_lite.scoring.wilson import wilson as wilson

RESAMPLES = 1000
MANY, FEW_RESAMPLES = 200_000, 200
"""Above MANY rows an interval is narrow: FEW_RESAMPLES give it closely enough, in seconds."""


def classification_metrics(logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
    """Accuracy, macro-F1 and mean cross-entropy.

    Macro-F1 is the mean over the classes that occur in the targets or the predictions, as scikit-learn computes it.

    Args:
        logits: (n, classes)
        targets: (n,)
        loss: Mean cross-entropy over the n rows, in nats.
    """
    predicted = logits.argmax(dim=-1)
    accuracy = (predicted == targets).double().mean()
    return {"accuracy": float(accuracy), "macro_f1": macro_f1(predicted, targets, logits.shape[-1]), "loss": loss}


def macro_f1(predicted: Tensor, targets: Tensor, classes: int) -> float:
    """The mean F1 over the classes that occur; predicted and targets are (n,)."""
    hits = torch.bincount(targets[predicted == targets], minlength=classes).double()
    true = torch.bincount(targets, minlength=classes).double()
    said = torch.bincount(predicted, minlength=classes).double()
    occurring = (true + said) > 0
    # numpy's mean, to the last digit that of scikit-learn
    return float((2 * hits[occurring] / (true + said)[occurring]).numpy().mean())


def classification_intervals(
    logits: Tensor, targets: Tensor, groups: Sequence[int] | None = None
) -> dict[str, tuple[float, float]]:
    """The interval of a share for the accuracy, and a bootstrap interval of macro-F1."""
    predicted, classes, n = logits.argmax(dim=-1), logits.shape[-1], len(targets)
    return {
        "accuracy": share_interval(predicted == targets, groups),
        "macro_f1": bootstrap(n, lambda rows: macro_f1(predicted[rows], targets[rows], classes), groups),
    }


def labels_metrics(logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
    """Micro- and macro-F1, the share of rows with every label right, and mean binary cross-entropy.

    A label is predicted where its probability is at least a half. Macro-F1 is the mean over the labels that occur in
    the targets or the predictions.

    Args:
        logits: (n, labels)
        targets: (n, labels), 0 or 1.
        loss: Mean binary cross-entropy over all n * labels decisions, in nats.
    """
    predicted, true = logits >= 0, targets > 0.5
    ends = predicted.sum(dim=0) + true.sum(dim=0)
    micro, macro = _labels_f1((predicted & true).sum(dim=0).double(), ends.double())
    return {
        "macro_f1": macro,
        "micro_f1": micro,
        "exact_match": float((predicted == true).all(dim=1).double().mean()),
        "loss": loss,
    }


def labels_intervals(
    logits: Tensor, targets: Tensor, groups: Sequence[int] | None = None
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of micro- and macro-F1, rows drawn together, and that of a share for the rows with all labels right."""
    predicted, true = logits >= 0, targets > 0.5
    hits, ends = (predicted & true).float(), predicted.float() + true.float()  # (n, labels); exact to 8 million rows

    def drawn(rows: Tensor) -> tuple[float, float]:
        times = torch.bincount(rows, minlength=len(true)).float()  # counting is much faster than copying the rows
        return _labels_f1((times @ hits).double(), (times @ ends).double())

    return {
        "macro_f1": bootstrap(len(true), lambda rows: drawn(rows)[1], groups),
        "micro_f1": bootstrap(len(true), lambda rows: drawn(rows)[0], groups),
        "exact_match": share_interval((predicted == true).all(dim=1), groups),
    }


def _labels_f1(hits: Tensor, ends: Tensor) -> tuple[float, float]:
    """Micro- and macro-F1 of `hits` right predictions of each label and `ends`, its predictions plus its occurrences.

    (labels,) float64 each. Where nothing occurs and nothing is predicted, 1.
    """
    if not ends.sum():
        return 1.0, 1.0
    occurring = ends > 0
    return float(2 * hits.sum() / ends.sum()), float((2 * hits[occurring] / ends[occurring]).mean())


def values_metrics(predicted: Tensor, targets: Tensor) -> dict[str, float]:
    """Root mean squared error, mean absolute error and R²; both (n,), in the units of the data.

    R² compares with always saying the mean of these targets, and is 0 where they are all alike.
    """
    error = (predicted - targets).double()
    spread = (targets.double() - targets.double().mean()).pow(2).sum()
    return {
        "rmse": float(error.pow(2).mean().sqrt()),
        "mae": float(error.abs().mean()),
        "r2": 1 - float(error.pow(2).sum() / spread) if spread > 0 else 0.0,
    }


def values_intervals(
    predicted: Tensor, targets: Tensor, groups: Sequence[int] | None = None
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of root mean squared error, mean absolute error and R²."""

    def drawn(name: str) -> tuple[float, float]:
        return bootstrap(len(targets), lambda rows: values_metrics(predicted[rows], targets[rows])[name], groups)

    return {name: drawn(name) for name in ("rmse", "mae", "r2")}


def share_interval(right: Tensor, groups: Sequence[int] | None = None) -> tuple[float, float]:
    """Wilson's interval of the share of rows that are right, (n,) bool.

    Where rows have groups, it spans Wilson's interval and the bootstrap over groups; the latter alone has no width where
    there are no mistakes.
    """
    low, high = wilson(int(right.sum()), len(right))
    if groups is not None:
        drawn = bootstrap(len(right), lambda rows: float(right[rows].double().mean()), groups)
        low, high = min(low, drawn[0]), max(high, drawn[1])
    return low, high


def bootstrap(n: int, score: Callable[[Tensor], float], groups: Sequence[int] | None = None) -> tuple[float, float]:
    """The 95 % percentile interval of a score over rows drawn again with replacement (Efron 1979), always alike.

    Args:
        n: Rows.
        score: From the rows drawn, (m,) int64 with m about n, to the score.
        groups: The group of each row.
    """
    return percentile_interval(torch.tensor([score(rows) for rows in resamples(n, groups)], dtype=torch.float64))


def percentile_interval(scores: Tensor) -> tuple[float, float]:
    """The middle 95 % of scores, (draws,) float64."""
    low, high = torch.quantile(scores, torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)


def resamples(n: int, groups: Sequence[int] | None = None, times: int | None = None) -> Iterator[Tensor]:
    """Draw rows again with replacement, always alike, so that what is scored on the same draws can be compared.

    Rows of one group, such as the windows of one engine, are not independent: where there are groups, whole groups are
    drawn (the cluster bootstrap, Field and Welsh 2007), and an interval is for new groups.

    Args:
        n: Rows.
        groups: The group of each row.
        times: How often; by default `RESAMPLES`, of many rows `FEW_RESAMPLES`.

    Yields:
        The rows of each draw, (m,) int64 with m about n.
    """
    generator = torch.Generator().manual_seed(0)
    members: list[Tensor] = []
    if groups is not None:
        _, group_of, sizes = torch.tensor(groups).unique(return_inverse=True, return_counts=True)
        members = list(group_of.argsort(stable=True).split(sizes.tolist()))
    for _ in range(times or (RESAMPLES if n <= MANY else FEW_RESAMPLES)):
        if groups is None:
            yield torch.randint(n, (n,), generator=generator)
        else:
            yield torch.cat([members[i] for i in torch.randint(len(members), (len(members),), generator=generator)])
