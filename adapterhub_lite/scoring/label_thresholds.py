"""From which probability each of several labels is given, chosen on held-out rows.

Choosing on rows and scoring on the same rows flatters; the choice comes with the scores of rows that were left out of
choosing, a part at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapterhub_lite.errors import DataError
from adapterhub_lite.scoring.folds import FOLDS
from adapterhub_lite.scoring.rules import Rule
from adapterhub_lite.scoring.threshold import Bools, Floats, between, lowest_threshold, parts_of

NEVER = 1.0
"""The threshold of a label that is never given."""


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
    parts, labels = parts_of(len(wanted), groups, rule), range(wanted.shape[1])

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


def _of_label(probability: Floats, wanted: Bools, rule: Rule) -> float:
    if not wanted.any():
        return 0.5 if rule.kind == "f1" else NEVER
    if rule.kind == "precision":
        threshold = lowest_threshold(probability, wanted, rule)
        return NEVER if threshold is None else threshold
    order = np.argsort(-probability, kind="stable")
    p = probability[order]
    scores = 2 * wanted[order].cumsum() / (np.arange(1, len(p) + 1) + wanted.sum())
    ends = np.append(p[:-1] > p[1:], True)
    return between(p, int(np.where(ends, scores, -1.0).argmax()))


def _given(probability: Floats, thresholds: Floats) -> Bools:
    return np.asarray((probability >= thresholds) & (thresholds < NEVER))


def _f1s(said: Bools, wanted: Bools) -> Floats:
    ends = (said.sum(axis=0) + wanted.sum(axis=0)).astype(np.float64)
    return np.divide(2.0 * (said & wanted).sum(axis=0), ends, out=np.zeros_like(ends), where=ends > 0)


def _macro_f1(said: Bools, wanted: Bools) -> float:
    occurring = (said | wanted).any(axis=0)
    return float(_f1s(said, wanted)[occurring].mean()) if occurring.any() else 0.0
