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
AT_ONCE = 65_536
"""Rows that are in double precision at one time."""


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


def calibration(probability: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> Calibration:
    """Compare probabilities with what came true: (n,) or (n, labels) each, n at least 1; some rows at a time."""
    totals = np.zeros((3, BINS))  # predictions, their probabilities, and how many are right
    for start in range(0, len(probability), AT_ONCE):
        p = probability[start : start + AT_ONCE].astype(np.float64).ravel()
        places = np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)
        for total, weights in zip(totals, (None, p, right[start : start + AT_ONCE].ravel()), strict=True):
            total += np.bincount(places, weights=weights, minlength=BINS)
    counts, sums, hits = totals
    bins = tuple(
        Bin(i / BINS, (i + 1) / BINS, int(n), float(sums[i]) / n, float(hits[i]) / n, wilson(int(hits[i]), int(n)))
        for i, n in enumerate(counts.tolist())
        if n
    )
    n = counts.sum()
    return Calibration(float(np.abs(sums - hits).sum() / n), float(sums.sum() / n), float(hits.sum() / n), bins)
