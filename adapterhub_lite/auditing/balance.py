"""How often each class comes."""

from __future__ import annotations

import numpy as np

from adapterhub_lite.auditing.finding import DATA, Finding, Row, fine
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.data.roles.columns import shortened

NAME, RARE_NAME = "imbalance", "rare classes"
FEW, UNEQUAL = 10, 20.0
"""Rows of a class that are too few to learn and to score it; how many times as often the commonest class comes as an alarm."""


def balance(material: Material) -> list[Finding]:
    """The commonest class beside the rarest, and classes of few rows."""
    labels, names = material.data.labels, material.data.dataset.labels
    if labels is None:
        return []
    counts = np.bincount(labels, minlength=len(names))
    rare = [names[label] for label in np.flatnonzero(counts < FEW)]
    told: list[Finding] = []
    ratio = counts.max() / max(1, counts.min())
    most, least = names[int(counts.argmax())], names[int(counts.argmin())]
    says = f"{most} comes {counts.max():,} times, {least} {counts.min():,} times, of {len(labels):,} rows"
    facts = {"counts": dict(zip(names, counts.tolist(), strict=True))}
    points, learnt = None, material.learnt
    if learnt is not None:  # what accuracy hides: the mean over classes is lower
        own = labels[material.data.sampled]
        right = learnt.said.argmax(axis=1) == own
        of_class = [float(right[own == label].mean()) for label in np.unique(own)]
        points = 100 * float(right.mean() - np.mean(of_class))
    advice = "look at macro-F1, not at accuracy; try --class-weights balanced, or label more of the rarest class"
    if ratio >= UNEQUAL:
        told.append(Finding(NAME, "alarm", says, advice, count=int(counts.max()), points=points, facts=facts))
    else:
        told.append(fine(NAME, says, **facts))
    if rare:
        rows = [Row(DATA, row, names[labels[row]]) for row in np.flatnonzero(counts[labels] < FEW).tolist()]
        says = f"{len(rare):,} of {len(names):,} classes have fewer than {FEW} rows: {shortened(rare)}"
        told.append(Finding(RARE_NAME, "alarm", says, "label more of them, or join them", rows, len(rare)))
    return told
