"""One threshold on probabilities: the lowest with enough coverage or precision, and the parts of rows it is checked on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.errors import DataError
from adapterhub_lite.scoring.folds import FOLDS, LEAST, folds_of
from adapterhub_lite.scoring.rules import Rule

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def least_answered(precision: float) -> int:
    """The fewest answers that can show a precision: with fewer, all right or one wrong are the only two outcomes."""
    return math.ceil(1 / (1 - precision) - 1e-9)


def parts_of(n: int, groups: Sequence[int] | None, rule: Rule) -> NDArray[np.int64]:
    """The part of each of n rows.

    Raises:
        DataError: there are too few for any to be left out.
    """
    parts = folds_of(n, groups)
    if parts is None:
        what = f"{n} held-out rows" + ("" if groups is None else f" of {len(set(groups))} groups")
        raise DataError(
            f"{rule} is chosen on held-out rows: {LEAST} at least, and of {FOLDS} groups where rows have groups; there are "
            f"{what}"
        )
    return parts


def lowest_threshold(probability: Floats, right: Bools, rule: Rule) -> float | None:
    """The lowest threshold at which the share that is answered, or is right of it, is large enough; None where none is."""
    order = np.argsort(-probability, kind="stable")
    p, hits = probability[order], right[order].cumsum()
    counts = np.arange(1, len(p) + 1)
    ends = np.append(p[:-1] > p[1:], True)  # rows of one probability are answered together
    if rule.kind == "coverage":
        enough = ends & (counts >= rule.value * len(p) - 1e-9)
        return between(p, int(np.flatnonzero(enough)[0]))
    enough = ends & (hits >= rule.value * counts - 1e-9) & (counts >= least_answered(rule.value))
    return between(p, int(np.flatnonzero(enough)[-1])) if enough.any() else None


def between(p: Floats, last: int) -> float:
    """A threshold between the last probability that is over it and the next one, so that rounding moves no row."""
    return float((p[last] + p[last + 1]) / 2) if last + 1 < len(p) else float(p[last] / 2)
