"""Whether a probability is what it says: of the rows with a probability of 0.8, four of five should be right.

Source: Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks (arXiv:1706.04599), sections 2 and 3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.scoring.wilson import wilson

BINS = 15
"""As many as in the paper, of one width."""


@dataclass(frozen=True)
class Bin:
    """The predictions whose probability is above `low` and at most `high`."""

    low: float
    high: float
    n: int
    probability: float
    """Their mean probability."""
    right: float
    """The share of them that are right."""
    interval: tuple[float, float]
    """Wilson's 95 % interval of that share."""


@dataclass(frozen=True)
class Calibration:
    """How far probabilities are from the shares that are right."""

    ece: float
    """Expected calibration error: the mean distance of the two over all predictions, a bin at a time."""
    mean_probability: float
    right: float
    """The share of all predictions that are right."""
    bins: tuple[Bin, ...]
    """Those that are not empty."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def calibration(probability: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Compare probabilities with what came true, (n,) each and n at least 1."""
    places = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, weights=probability, minlength=BINS)
    hits = np.bincount(places, weights=right, minlength=BINS)
    bins = tuple(
        Bin(i / BINS, (i + 1) / BINS, n, float(sums[i]) / n, int(hits[i]) / n, wilson(int(hits[i]), n))
        for i, n in enumerate(counts.tolist())
        if n
    )
    ece = float(np.abs(sums - hits).sum()) / len(probability)
    return Calibration(ece, float(probability.mean()), float(right.mean()), bins)
