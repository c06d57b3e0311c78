"""Where to answer and where to abstain, chosen on held-out rows.

Choosing on rows and scoring on the same rows flatters; the choice comes with the scores of rows that were left out of
choosing, a part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapterhub_lite.errors import DataError
from adapterhub_lite.scoring.folds import FOLDS
from adapterhub_lite.scoring.rules import Rule
from adapterhub_lite.scoring.threshold import Bools, Floats, least_answered, lowest_threshold, parts_of


@dataclass(frozen=True)
class Abstention:
    """A threshold below which nothing is answered."""

    threshold: float
    rows: int
    """Held-out rows it was chosen on."""
    coverage: float
    """The share of them that is answered, the threshold of each being chosen on the other parts."""
    accuracy: float | None
    """The share of those that are right; None where none is answered."""


def choose_abstention(probability: Floats, right: Bools, rule: Rule, groups: Sequence[int] | None = None) -> Abstention:
    """The lowest threshold that a rule allows, on held-out rows.

    Args:
        probability: (n,) of the predicted class.
        right: (n,) whether it is the wanted one.
        rule: A coverage or a precision.
        groups: The group of each row; rows of one are not independent.

    Raises:
        DataError: too few rows, or a precision that no threshold reaches.
    """
    parts = parts_of(len(right), groups, rule)
    threshold = lowest_threshold(probability, right, rule)
    if threshold is None:
        order = np.argsort(-probability, kind="stable")
        shares = right[order].cumsum() / np.arange(1, len(right) + 1)
        least = least_answered(rule.value)
        if len(right) < least:
            best = f"{least} answers at least are needed to tell such a share"
        else:
            best = f"the surest {least} are right in {shares[least - 1]:.1%}, all in {shares[-1]:.1%}"
        raise DataError(
            f"{rule} is not reached by any threshold on the {len(right)} held-out rows: {best}; ask for less, hold out "
            "more rows, or train a better adapter"
        )
    answered = np.zeros(len(right), dtype=bool)
    for part in range(FOLDS):
        own = parts == part
        other = lowest_threshold(probability[~own], right[~own], rule)
        answered[own] = probability[own] >= (math.inf if other is None else other)
    accuracy = float(right[answered].mean()) if answered.any() else None
    return Abstention(threshold, len(right), float(answered.mean()), accuracy)
