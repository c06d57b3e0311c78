"""What gives a label away without the content: length, case, file size, a picture's border, or where a row comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.finding import Finding, fine
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.auditing.needs import needed

NAME, SOURCE = "shortcuts", "labels by source"
KINDS = {
    "length": ("length", "words"),
    "case": ("case", "first letter's case"),
    "the last character": ("last character",),
    "file size": ("file size",),
    "picture size": ("width", "height"),
    "the picture's border": ("border red", "border green", "border blue", "border spread"),
}
"""Traits that are looked at together."""
SKILL = 0.7
"""How far the F1 of a class may be above that of always naming it, of what is possible, before it counts as given away."""
FEWEST, AT_MOST, FOLDS = 20, 10_000, 3


def shortcuts(material: Material) -> list[Finding]:
    """Classes that a small tree tells by one kind of trait, and columns that tell the class.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    data, labels = material.data, material.data.labels
    if labels is None or len(np.unique(labels)) < 2:
        return []
    rows = data.sampled[:: -(-len(data.sampled) // AT_MOST)]
    told = []
    for kind, names in KINDS.items():
        columns = [data.trait_names.index(name) for name in names if name in data.trait_names]
        traits = data.traits[rows][:, columns]
        if traits.size and not np.isnan(traits).any() and (traits != traits[0]).any():
            told += _given_away(material, kind, traits, labels[rows], data.keys[rows])
    told = told or [fine(NAME, "no class can be told from " + ", ".join(_looked_at(data.trait_names)) + " alone")]
    for name, values in material.slices.items():
        told += _by_source(material, name, np.asarray(values)[data.sampled], labels[data.sampled])
    return told


def _looked_at(names: Sequence[str]) -> list[str]:
    return [kind for kind, traits in KINDS.items() if set(traits) & set(names)]


def skills(labels: NDArray[np.int64], said: NDArray[np.int64]) -> dict[int, float]:
    """Of each class of enough rows the F1, 0 for that of always naming the class and 1 for 1."""
    found = {}
    for label in np.flatnonzero(np.bincount(labels) >= FEWEST).tolist():
        share = float((labels == label).mean())
        f1 = (
            2
            * int(((labels == label) & (said == label)).sum())
            / max(1, int((labels == label).sum() + (said == label).sum()))
        )
        always = 2 * share / (1 + share)
        found[label] = (f1 - always) / (1 - always) if share < 1 else 0.0
    return found


def _given_away(
    material: Material, kind: str, traits: NDArray[Any], labels: NDArray[np.int64], keys: NDArray[np.int64]
) -> list[Finding]:
    trees, folds = needed("sklearn.tree", "scikit-learn"), needed("sklearn.model_selection", "scikit-learn")
    tree = trees.DecisionTreeClassifier(max_depth=6, min_samples_leaf=max(5, len(labels) // 500), random_state=0)
    split = folds.KFold(FOLDS, shuffle=True, random_state=material.seed)
    if len(labels) < FOLDS * FEWEST:
        return []
    said = folds.cross_val_predict(tree, traits, labels, cv=split)
    names = material.data.dataset.labels
    given = {names[label]: skill for label, skill in skills(labels, said).items() if skill >= SKILL}
    if not given:
        return []
    right, majority = float((said == labels).mean()), np.bincount(labels).max() / len(labels)
    which = ", ".join(sorted(given, key=lambda name: -given[name])[:5])
    return [
        Finding(
            NAME, "alarm", f"{which}: can be told from {kind} alone (all classes so: {right:.0%} right; always the "
            f"commonest: {majority:.0%})",
            f"a model may learn {kind} in place of the content: collect rows of each class that do not differ in it, or make "
            "them alike", count=len(given), points=100 * (right - majority), facts={"by": kind, "skill": given},
        )
    ]  # fmt: skip


def _by_source(material: Material, name: str, values: NDArray[Any], labels: NDArray[np.int64]) -> list[Finding]:
    """Whether a column says the class, and the inputs say the column."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(counts) < 2 or len(counts) > len(values) / FEWEST:
        return []
    table = np.zeros((len(counts), int(labels.max()) + 1))
    np.add.at(table, (place, labels), 1)
    said = table.argmax(axis=1)[place]
    given = {label: skill for label, skill in skills(labels, said).items() if skill >= SKILL}
    if not given:
        return [fine(SOURCE, f"column '{name}' does not give the class away")]
    seen, learnt = "", material.learnt
    if learnt is not None:
        linear, folds = (
            needed("sklearn.linear_model", "scikit-learn"),
            needed("sklearn.model_selection", "scikit-learn"),
        )
        rows = np.arange(len(place))[:: -(-len(place) // AT_MOST)]
        probe = linear.RidgeClassifier(alpha=1.0)
        told = folds.cross_val_predict(probe, learnt.features[rows], place[rows], cv=FOLDS)
        seen = f"; a probe on features tells '{name}' in {float((told == place[rows]).mean()):.0%} of rows"
    which = ", ".join(
        material.data.dataset.labels[label] for label in sorted(given, key=lambda label: -given[label])[:5]
    )
    return [
        Finding(
            SOURCE, "alarm", f"{which}: can be told from column '{name}' alone{seen}",
            "a model may learn the source in place of the content: collect rows of each class from each source",
            count=len(given), points=100 * float((said == labels).mean() - np.bincount(labels).max() / len(labels)),
            facts={"by": name},
        )
    ]  # fmt: skip
