"""Tables of scores by class and of calibration."""

from __future__ import annotations

from adapterhub_lite.scoring.by_class import ClassScores
from adapterhub_lite.scoring.calibration import Calibration
from adapterhub_lite.scoring.detail import Cell, Section

MANY = 20
"""Classes beyond which the worst are shown first, and confusions are listed in place of a matrix."""


def classes_section(scores: ClassScores, what: str = "class") -> Section:
    """A table of all classes and of the means over them; of many classes the worst come first."""
    classes = list(scores.classes)
    if len(classes) > MANY:
        classes.sort(key=lambda score: score.f1)
    rows: list[tuple[Cell, ...]] = [
        (s.label if s.known else f"{s.label} (unknown)", s.precision, s.recall, s.f1, s.n, s.predicted) for s in classes
    ]
    total = sum(score.n for score in classes), sum(score.predicted for score in classes)
    rows += [(f"{kind} average", *means.values(), *total) for kind, means in scores.averages.items()]
    absent = f"; {len(scores.absent)} of the adapter do not occur" if scores.absent else ""
    return Section(f"by {what}{absent}", (what, "precision", "recall", "F1", "rows", "predicted"), tuple(rows))


def calibration_section(calibrated: Calibration) -> Section:
    """A table of what the probabilities say and what came true."""
    rows = tuple(
        (f"{b.low:.2f} to {b.high:.2f}", b.n, b.probability, b.right, f"{b.interval[0]:.4f} to {b.interval[1]:.4f}")
        for b in calibrated.bins
    )
    title = f"calibration: expected calibration error (ECE) {calibrated.ece:.4f}"
    return Section(title, ("probability", "rows", "mean", "share right", "95 % interval"), rows)
