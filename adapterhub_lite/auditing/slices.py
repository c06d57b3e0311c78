"""Whether a model does worse on some rows than on others, and whether their labels are worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.finding import DATA, Finding, Row, fine, unknown
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.auditing.needs import needed
from adapterhub_lite.scoring.wilson import wilson

NAME, LABELS = "gaps between slices", "slices with worse labels"
FEWEST, MANY = 20, 200
"""Rows of a slice that are too few to say anything; values from which on a column is no column of slices."""
CHANCE, GAP = 0.001, 0.02
"""How unlikely a gap has to be by chance, over all slices of a column, and how large, to be an alarm."""


def slices(material: Material, wrong: Sequence[Row]) -> list[Finding]:
    """Both findings for each column that was asked for.

    Args:
        material: What is looked at.
        wrong: Rows whose label is probably wrong.

    Raises:
        ConfigError: fairlearn is not installed.
    """
    told: list[Finding] = []
    labels, learnt = material.data.labels, material.learnt
    for column, every in material.slices.items():
        if learnt is None or labels is None:
            told.append(unknown(NAME, f"'{column}' not looked at: " + (
                material.why_not_learnt if learnt is None else "rows have no single class each"
            )))  # fmt: skip
            continue
        values = np.asarray(every)[material.data.sampled]
        right = learnt.said.argmax(axis=1) == labels[material.data.sampled]
        suspected = np.isin(material.data.sampled, [row.place for row in wrong if row.side == DATA])
        told += [_gap(column, values, right), _labels(column, values, suspected)]
    return told


def _sizes(values: NDArray[Any]) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(map(str, names), counts.tolist(), strict=True))


def _gap(column: str, values: NDArray[Any], right: NDArray[np.bool_]) -> Finding:
    metrics = needed("fairlearn.metrics", "fairlearn")
    sizes = _sizes(values)
    smallest = min(sizes, key=lambda name: sizes[name])
    enough = {name for name, n in sizes.items() if n >= FEWEST}
    if len(enough) < 2 or len(sizes) > MANY:
        return unknown(
            NAME, f"'{column}': too small to say, its smallest slice {smallest} has {sizes[smallest]:,} rows"
        )
    frame = metrics.MetricFrame(
        metrics=lambda wanted, said: float(np.mean(said)),
        y_true=right,
        y_pred=right,
        sensitive_features=values.astype(str),
    )
    scores = {str(name): float(score) for name, score in frame.by_group.items()}
    chance = {name: two_shares(right[values == name], right[values != name]) for name in enough}
    worst = min(enough, key=lambda name: scores[name])
    rest = float(right[values != worst].mean())
    low, high = wilson(int(right[values == worst].sum()), sizes[worst])
    says = (
        f"'{column}': {worst} is right in {scores[worst]:.1%} ({low:.1%} to {high:.1%}, {sizes[worst]:,} rows), the others in "
        f"{rest:.1%}; the smallest slice is {smallest}, {sizes[smallest]:,} rows"
    )
    facts = {"column": column, "slice": worst, "scores": scores, "sizes": sizes}
    if chance[worst] * len(enough) > CHANCE or rest - scores[worst] < GAP:
        return Finding(NAME, "fine", says + "; no gap beyond chance", facts=facts)
    return Finding(
        NAME, "alarm", says, f"label more of {worst}, and score it apart", count=1, points=100 * (rest - scores[worst]),
        facts=facts,
    )  # fmt: skip


def _labels(column: str, values: NDArray[Any], suspected: NDArray[np.bool_]) -> Finding:
    sizes = {name: n for name, n in _sizes(values).items() if n >= FEWEST}
    if len(sizes) < 2 or len(sizes) > MANY:
        return unknown(LABELS, f"'{column}': too small to say")
    share = {name: float(suspected[values == name].mean()) for name in sizes}
    worst = max(sizes, key=lambda name: share[name])
    rest = float(suspected[values != worst].mean())
    if (
        two_shares(suspected[values == worst], suspected[values != worst]) * len(sizes) > CHANCE
        or share[worst] - rest < GAP
    ):
        return fine(LABELS, f"'{column}': labels look equally good in {len(sizes):,} slices")
    return Finding(
        LABELS, "alarm",
        f"'{column}': {share[worst]:.1%} of {worst} probably have the wrong label, of the others {rest:.1%}",
        f"look at who labelled {worst}, and label it again", count=1, facts={"column": column, "slice": worst},
    )  # fmt: skip


def two_shares(some: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """How likely shares that differ so are by chance: the two-sided z-test of two proportions."""
    n, m = len(some), len(others)
    if not n or not m:
        return 1.0
    pooled = (some.sum() + others.sum()) / (n + m)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return 1.0 if not spread else math.erfc(abs(float(some.mean() - others.mean())) / spread / math.sqrt(2))
