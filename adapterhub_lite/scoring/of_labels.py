"""Detailed scores of any number of labels a row, and of what is found in texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.scoring.by_class import Bools, ClassScores, of_labels
from adapterhub_lite.scoring.calibration import Calibration, calibration
from adapterhub_lite.scoring.detail import Section
from adapterhub_lite.scoring.sections import calibration_section, classes_section

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LabelDetail:
    """The scores of predictions of any number of labels a row."""

    scores: ClassScores
    thresholds: tuple[float, ...]
    """The probability from which each label is given, in the order of the adapter's labels."""
    calibration: Calibration
    """Of the probabilities of all labels in all rows; those of one row are not independent."""

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            **self.scores.record(),
            "thresholds": list(self.thresholds),
            "calibration": self.calibration.record(),
        }

    def sections(self) -> Sequence[Section]:
        """Tables by label and of calibration."""
        return classes_section(self.scores, "label"), calibration_section(self.calibration)


@dataclass(frozen=True)
class TagDetail:
    """The scores of what is found in texts, such as names: by kind, and of all together (micro)."""

    scores: ClassScores

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        return self.scores.record()

    def sections(self) -> Sequence[Section]:
        """A table by kind."""
        return (classes_section(self.scores, "kind"),)


def detail_of_labels(
    wanted: Bools, said: Bools, probability: Floats, names: Sequence[str], known: int, thresholds: Sequence[float]
) -> LabelDetail:
    """The detailed scores of predicted labels; n at least 1.

    Args:
        wanted: (n, labels)
        said: (n, labels)
        probability: (n, known labels)
        names: Of all labels; those from place `known` on are not among the adapter's.
        known: Labels that the adapter knows.
        thresholds: (known labels,)
    """
    true = wanted[:, :known]
    return LabelDetail(of_labels(wanted, said, names, known), tuple(thresholds), calibration(probability, true))
