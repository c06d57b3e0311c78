"""Precision, recall and F1 of every class, averages over them, and which classes are taken for which.

Definitions and divisions by zero (a score of 0) are those of `sklearn.metrics.classification_report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others."""

    label: str
    precision: float
    """The share of what is predicted as this class that is of it; 0 where it is never predicted."""
    recall: float
    """The share of its rows that are predicted as it; 0 where it has none."""
    f1: float
    """The harmonic mean of the two."""
    n: int
    """Its rows."""
    predicted: int
    """Rows that are predicted as it."""
    known: bool = True
    """Whether the adapter can predict it; False for a label that it was not trained on."""


@dataclass(frozen=True)
class ClassScores:
    """The scores of all classes that occur, in the labels or in the predictions, and their means."""

    classes: tuple[ClassScore, ...]
    absent: tuple[str, ...]
    """Classes of the adapter that do not occur; they are in no mean."""
    averages: dict[str, dict[str, float]]
    """By kind (macro, weighted, micro): precision, recall and f1."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "classes": [asdict(score) for score in self.classes],
            "absent": list(self.absent),
            "averages": self.averages,
        }


@dataclass(frozen=True)
class Confusion:
    """Rows of one class that are predicted as another."""

    label: str
    predicted: str
    count: int
    share: float
    """Of the rows of `label`."""


def of_classes(wanted: Ints, said: Ints, names: Sequence[str], known: int) -> ClassScores:
    """The scores of classes where each row has one.

    Args:
        wanted: (n,) the class of each row.
        said: (n,) the class that is predicted.
        names: Of all classes; those from place `known` on are not among the adapter's.
        known: Classes that the adapter knows.
    """
    hits, rows, predicted = (
        np.bincount(classes, minlength=len(names)) for classes in (wanted[wanted == said], wanted, said)
    )
    return scores_of(hits, rows, predicted, names, known)


def of_labels(wanted: Bools, said: Bools, names: Sequence[str], known: int) -> ClassScores:
    """The scores of labels where each row has any number of them; wanted and said are (n, labels)."""
    return scores_of((wanted & said).sum(axis=0), wanted.sum(axis=0), said.sum(axis=0), names, known)


def scores_of(hits: Ints, rows: Ints, predicted: Ints, names: Sequence[str], known: int) -> ClassScores:
    """The scores of classes by their counts, (classes,) each.

    Args:
        hits: Rows of the class that are predicted as it.
        rows: Rows of the class.
        predicted: Rows that are predicted as it.
        names: Of the classes.
        known: How many of them, from the first on, the adapter knows.
    """
    scores = [_divided(hits, predicted), _divided(hits, rows), _divided(2 * hits, rows + predicted)]
    there = np.flatnonzero(rows + predicted)
    classes = tuple(
        ClassScore(
            names[i],
            float(scores[0][i]),
            float(scores[1][i]),
            float(scores[2][i]),
            n=int(rows[i]),
            predicted=int(predicted[i]),
            known=i < known,
        )
        for i in there.tolist()
    )
    sums = [int(counts.sum()) for counts in (hits, predicted, rows)]
    micro = [share(sums[0], sums[1]), share(sums[0], sums[2]), share(2 * sums[0], sums[1] + sums[2])]
    weights = rows[there] if rows.sum() else None
    means = {
        "macro": [float(np.average(score[there])) if len(there) else 0.0 for score in scores],
        "weighted": [float(np.average(score[there], weights=weights)) if len(there) else 0.0 for score in scores],
        "micro": micro,
    }
    named = {kind: dict(zip(("precision", "recall", "f1"), values, strict=True)) for kind, values in means.items()}
    absent = tuple(name for name, there in zip(names, rows + predicted, strict=True) if not there)
    return ClassScores(classes, absent, named)


def share(count: int, n: int) -> float:
    """A share, 0 where there is nothing to divide by."""
    return count / n if n else 0.0


def confusions(wanted: Ints, said: Ints, names: Sequence[str]) -> tuple[Confusion, ...]:
    """Every pair of classes of which one is taken for the other, the most frequent first; wanted and said are (n,)."""
    wrong = wanted != said
    pairs, counts = np.unique(wanted[wrong] * len(names) + said[wrong], return_counts=True)
    rows = np.bincount(wanted, minlength=len(names))
    made = []
    for place in np.argsort(-counts, kind="stable").tolist():
        label, predicted = divmod(int(pairs[place]), len(names))
        count = int(counts[place])
        made.append(Confusion(names[label], names[predicted], count, count / int(rows[label])))
    return tuple(made)


def confusion_matrix(wanted: Ints, said: Ints, classes: int) -> Ints:
    """Counts, (classes, classes): a row for each class, a column for each prediction; wanted and said are (n,)."""
    return np.bincount(wanted * classes + said, minlength=classes * classes).reshape(classes, classes)


def _divided(counts: Ints, by: Ints) -> NDArray[np.float64]:
    return np.divide(counts, by, out=np.zeros(len(counts)), where=by > 0)
