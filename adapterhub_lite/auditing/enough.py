"""Whether the rows to score on are enough for what is to be claimed."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from adapterhub_lite.auditing.finding import Finding
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.scoring.wilson import QUANTILE, wilson

NAME = "size of the test set"
WIDE = 0.05
"""Half an interval from which on a score says little."""
POWER = NormalDist().inv_cdf(0.8)
FEWEST_APART = 6
"""Rows on which two models differ, all in favour of one, from which on it is no chance (p = 0.03)."""


def enough(material: Material) -> list[Finding]:
    """The interval that a score will have, and the smallest difference between two models that can be shown."""
    held_out, learnt = material.held_out, material.learnt
    if material.data.labels is None:
        return []
    n, whose = len(material.data) // 10, "a tenth of the data, held out"
    if held_out is not None and held_out.dataset.targets is not None:  # without, it is a sample of the deployment
        n, whose = len(held_out), "the rows to score on"
    if n < 1:
        return [Finding(NAME, "alarm", "there are no rows to score on", "label some more", count=n)]
    right, of = 0.9, "if nine of ten are right"
    if learnt is not None:
        labels, said = material.data.labels[material.data.sampled], learnt.said
        if held_out is not None and held_out.labels is not None and learnt.held_out_said is not None:
            labels, said = held_out.labels[held_out.sampled], learnt.held_out_said
        right, of = float((said.argmax(axis=1) == labels).mean()), "of a linear probe"
    low, high = wilson(round(right * n), n)
    least = smallest_difference(n, min(1 - right, 0.5) if right < 1 else FEWEST_APART / n)
    says = (
        f"{whose}: {n:,}; an accuracy of {right:.1%}, {of}, is known to {low:.1%} to {high:.1%}; of two models a difference "
        f"from {100 * least:.1f} points on can be shown, where they differ in as many rows as one has wrong"
    )
    facts = {"rows": n, "low": low, "high": high, "smallest_difference": least}
    if (high - low) / 2 < WIDE:
        return [Finding(NAME, "fine", says, facts=facts)]
    needed = math.ceil(QUANTILE**2 * right * (1 - right) / (WIDE / 2) ** 2) if 0 < right < 1 else 4 * n
    advice = f"score on more rows: about {needed:,} give an interval of {100 * WIDE / 2:g} points to each side"
    return [Finding(NAME, "alarm", says, advice, count=n, points=50 * (high - low), facts=facts)]


def smallest_difference(n: int, differing: float) -> float:
    """The smallest difference of two accuracies that McNemar's test shows in four of five cases, at 5 % (Connor 1987).

    Args:
        n: Rows that both models are scored on.
        differing: Share of the rows that one of them alone has right.
    """
    least = FEWEST_APART / n
    for _ in range(50):
        spread = math.sqrt(max(differing - least**2, 0.0))
        least = max(FEWEST_APART / n, (QUANTILE * math.sqrt(differing) + POWER * spread) / math.sqrt(n))
    return min(least, 1.0)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """How likely two models differ so by chance: the exact test of McNemar (1947) on whether each was right, (n,) bool."""
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    n = one + other
    tail = sum(math.comb(n, k) for k in range(min(one, other) + 1)) / 2**n
    return min(1.0, 2 * tail)
