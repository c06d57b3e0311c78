"""Where to answer and where to abstain, chosen on held-out rows: one threshold, or one for every label.

Choosing on rows and scoring on the same rows flatters; every choice here comes with the scores of rows that were left out
of choosing, a part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.errors import DataError
from adapterhub_lite.scoring.folds import FOLDS, LEAST, folds_of
from adapterhub_lite.scoring.rules import Rule

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
NEVER = 1.0
"""The threshold of a label that is never given."""


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


@dataclass(frozen=True)
class LabelThresholds:
    """A threshold for each label."""

    thresholds: tuple[float, ...]
    rows: int
    """Held-out rows they were chosen on."""
    macro_f1_before: float
    """Of these rows, with a threshold of a half for all labels."""
    macro_f1_after: float
    """Of these rows, the thresholds of each being chosen on the other parts."""


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
    parts = _parts(len(right), groups, rule)
    threshold = _threshold(probability, right, rule)
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
        other = _threshold(probability[~own], right[~own], rule)
        answered[own] = probability[own] >= (math.inf if other is None else other)
    accuracy = float(right[answered].mean()) if answered.any() else None
    return Abstention(threshold, len(right), float(answered.mean()), accuracy)


def choose_for_labels(
    probability: Floats, wanted: Bools, rule: Rule, groups: Sequence[int] | None = None
) -> LabelThresholds:
    """A threshold for each label: the one with the best F1, or the lowest with a precision, on held-out rows.

    By F1, a label keeps a half where on rows that were left out of choosing that is better; by precision, a label that does
    not reach it is never given.

    Args:
        probability: (n, labels)
        wanted: (n, labels)
        rule: f1 or a precision.
        groups: The group of each row; rows of one are not independent.

    Raises:
        DataError: too few rows, or a precision that no label reaches.
    """
    parts, labels = _parts(len(wanted), groups, rule), range(wanted.shape[1])

    def chosen(rows: Bools) -> list[float]:
        return [_of_label(probability[rows, label], wanted[rows, label], rule) for label in labels]

    plain, left_out = probability >= 0.5, np.zeros_like(wanted)
    for part in range(FOLDS):
        own = parts == part
        left_out[own] = _given(probability[own], np.array(chosen(~own)))
    thresholds = np.array(chosen(np.ones(len(wanted), dtype=bool)))
    if rule.kind == "f1":
        worse = _f1s(left_out, wanted) <= _f1s(plain, wanted)
        thresholds[worse], left_out[:, worse] = 0.5, plain[:, worse]
    elif (thresholds == NEVER).all():
        raise DataError(
            f"{rule} is not reached for any label on the {len(wanted)} held-out rows; ask for less, hold out more rows, or "
            "train a better adapter"
        )
    before, after = (_macro_f1(said, wanted) for said in (plain, left_out))
    return LabelThresholds(tuple(thresholds.tolist()), len(wanted), before, after)


def least_answered(precision: float) -> int:
    """The fewest answers that can show a precision: with fewer, all right or one wrong are the only two outcomes."""
    return math.ceil(1 / (1 - precision) - 1e-9)


def _parts(n: int, groups: Sequence[int] | None, rule: Rule) -> NDArray[np.int64]:
    parts = folds_of(n, groups)
    if parts is None:
        what = f"{n} held-out rows" + ("" if groups is None else f" of {len(set(groups))} groups")
        raise DataError(
            f"{rule} is chosen on held-out rows: {LEAST} at least, and of {FOLDS} groups where rows have groups; there are "
            f"{what}"
        )
    return parts


def _threshold(probability: Floats, right: Bools, rule: Rule) -> float | None:
    """The lowest threshold at which the share that is answered, or is right of it, is large enough; None where none is."""
    order = np.argsort(-probability, kind="stable")
    p, hits = probability[order], right[order].cumsum()
    counts = np.arange(1, len(p) + 1)
    ends = np.append(p[:-1] > p[1:], True)  # rows of one probability are answered together
    if rule.kind == "coverage":
        enough = ends & (counts >= rule.value * len(p) - 1e-9)
        return _between(p, int(np.flatnonzero(enough)[0]))
    enough = ends & (hits >= rule.value * counts - 1e-9) & (counts >= least_answered(rule.value))
    return _between(p, int(np.flatnonzero(enough)[-1])) if enough.any() else None


def _of_label(probability: Floats, wanted: Bools, rule: Rule) -> float:
    if not wanted.any():
        return 0.5 if rule.kind == "f1" else NEVER
    if rule.kind == "precision":
        threshold = _threshold(probability, wanted, rule)
        return NEVER if threshold is None else threshold
    order = np.argsort(-probability, kind="stable")
    p = probability[order]
    scores = 2 * wanted[order].cumsum() / (np.arange(1, len(p) + 1) + wanted.sum())
    ends = np.append(p[:-1] > p[1:], True)
    return _between(p, int(np.where(ends, scores, -1.0).argmax()))


def _between(p: Floats, last: int) -> float:
    """A threshold between the last probability that is over it and the next one, so that rounding moves no row."""
    return float((p[last] + p[last + 1]) / 2) if last + 1 < len(p) else float(p[last] / 2)


def _given(probability: Floats, thresholds: Floats) -> Bools:
    return np.asarray((probability >= thresholds) & (thresholds < NEVER))


def _f1s(said: Bools, wanted: Bools) -> Floats:
    ends = (said.sum(axis=0) + wanted.sum(axis=0)).astype(np.float64)
    return np.divide(2.0 * (said & wanted).sum(axis=0), ends, out=np.zeros_like(ends), where=ends > 0)


def _macro_f1(said: Bools, wanted: Bools) -> float:
    occurring = (said | wanted).any(axis=0)
    return float(_f1s(said, wanted)[occurring].mean()) if occurring.any() else 0.0
