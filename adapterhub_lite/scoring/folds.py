"""Parts of held-out rows: what is chosen on the others is scored on each, so that the score is of rows not chosen on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
LEAST = 20
"""Rows, below which nothing is chosen."""


def folds_of(n: int, groups: Sequence[int] | None) -> NDArray[np.int64] | None:
    """The part of each of n rows, always alike; rows of one group are in one part. None where there are too few."""
    units = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(units.max()) + 1 if n else 0
    if n < LEAST or count < FOLDS:
        return None
    part: NDArray[np.int64] = np.random.default_rng(0).permutation(count) % FOLDS
    return part[units]
