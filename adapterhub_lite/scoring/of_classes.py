"""Detailed scores of predicted classes and labels: by class, confusions, calibration, and what abstaining is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.scoring.by_class import (
    Bools,
    ClassScores,
    Confusion,
    Ints,
    confusion_matrix,
    confusions,
    of_classes,
)
from adapterhub_lite.scoring.calibration import Calibration, calibration
from adapterhub_lite.scoring.detail import Cell, Section
from adapterhub_lite.scoring.sections import MANY, calibration_section, classes_section

Floats = NDArray[np.float64]
SHOWN = 20
"""Confusions that are shown of more classes."""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True)
class Answered:
    """What remains where the adapter abstains below a threshold."""

    threshold: float
    n: int
    """Rows that are answered."""
    coverage: float
    """The share of all rows that they are."""
    accuracy: float | None
    """The share of them that are right; None where there are none."""


@dataclass(frozen=True)
class ClassDetail:
    """The scores of predictions of one class a row.

    The scores by class, the confusions and the calibration are of the likeliest class of every row, whether the adapter
    abstains or not. A row whose label the adapter does not know is a row of a class that it never predicts.
    """

    scores: ClassScores
    confusions: tuple[Confusion, ...]
    """All of them, the most frequent first."""
    matrix: tuple[tuple[int, ...], ...] | None
    """Counts, a row for each class and a column for each prediction, in the order of `names`; None beyond 20 classes."""
    names: tuple[str, ...]
    calibration: Calibration
    """Of the probability of the likeliest class."""
    at_coverage: tuple[Answered, ...]
    """What abstaining would be worth: the surest 95 %, 90 %, ... of these rows."""
    answered: Answered | None
    """What the adapter answers, where it abstains."""

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            **self.scores.record(),
            "confusions": [asdict(confusion) for confusion in self.confusions],
            "confusion_matrix": None if self.matrix is None else {"labels": list(self.names), "counts": self.matrix},
            "calibration": self.calibration.record(),
            "at_coverage": [asdict(point) for point in self.at_coverage],
            "answered": None if self.answered is None else asdict(self.answered),
        }

    def sections(self) -> Sequence[Section]:
        """Tables by class, of confusions, of calibration and of what abstaining would be worth."""
        made = [classes_section(self.scores)]
        if self.matrix is not None:
            rows: tuple[tuple[Cell, ...], ...] = tuple(
                (f"{i} {name}", *self.matrix[i - 1]) for i, name in enumerate(self.names, start=1)
            )
            numbers = tuple(map(str, range(1, len(self.names) + 1)))
            made.append(Section("confusion matrix: rows as labelled, columns as predicted", ("class", *numbers), rows))
        elif self.confusions:
            top = tuple((c.label, c.predicted, c.count, c.share) for c in self.confusions[:SHOWN])
            title = f"the {len(top)} most frequent of {len(self.confusions)} confusions"
            made.append(Section(title, ("class", "predicted as", "rows", "share of the class"), top))
        answers = tuple((f"{a.coverage:.1%}", a.threshold, a.n, a.accuracy) for a in self.at_coverage)
        return (
            *made,
            calibration_section(self.calibration),
            Section("if only the surest were answered", ("answered", "probability from", "rows", "accuracy"), answers),
        )


def detail_of_classes(
    wanted: Ints, said: Ints, probability: Floats, names: Sequence[str], known: int, threshold: float | None
) -> ClassDetail:
    """The detailed scores of predicted classes; n at least 1.

    Args:
        wanted: (n,) the class of each row.
        said: (n,) the likeliest class.
        probability: (n,) of the likeliest class.
        names: Of all classes; those from place `known` on are not among the adapter's.
        known: Classes that the adapter knows.
        threshold: The probability below which it abstains.
    """
    right = wanted == said
    small = len(names) <= MANY
    counts = confusion_matrix(wanted, said, len(names)).tolist() if small else None
    order = np.argsort(-probability, kind="stable")
    at_coverage = []
    for coverage in COVERAGES:
        surest = order[: max(1, round(coverage * len(wanted)))]
        at_coverage.append(_answered(right, surest, float(probability[surest[-1]])))
    own = None if threshold is None else _answered(right, np.flatnonzero(probability >= threshold), threshold)
    return ClassDetail(
        of_classes(wanted, said, names, known),
        confusions(wanted, said, names),
        None if counts is None else tuple(map(tuple, counts)),
        tuple(names),
        calibration(probability, right),
        tuple(at_coverage),
        own,
    )


def _answered(right: Bools, rows: Ints, threshold: float) -> Answered:
    n = len(rows)
    return Answered(threshold, n, n / len(right), float(right[rows].mean()) if n else None)
