"""Labels that are probably wrong, and rows that fit two classes, by confident learning on out-of-fold probabilities.

Northcutt, Jiang and Chuang 2021, arXiv:1911.00068, as cleanlab has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.finding import DATA, Finding, Row, fine, unknown
from adapterhub_lite.auditing.learnt import FOLDS, Learnt
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.auditing.needs import needed

NAME, UNSURE = "label errors", "ambiguous rows"
SHARE = 0.03
"""From this share of the rows on wrong labels are an alarm: even careful labelling leaves a few in a hundred in doubt."""


def wrong_labels(material: Material) -> list[Finding]:
    """Both findings, and what leaving out the wrong labels is worth.

    Raises:
        ConfigError: cleanlab is not installed.
    """
    labels, learnt = material.data.labels, material.learnt
    if learnt is None:
        return [unknown(NAME, f"not looked for: {material.why_not_learnt}")]
    if labels is None:
        return [unknown(NAME, "not looked for: rows have no single class each")]
    labels = labels[material.data.sampled]
    known = np.flatnonzero(np.bincount(labels, minlength=learnt.said.shape[1]) >= FOLDS)
    judged = np.flatnonzero(np.isin(labels, known))
    if len(known) < 2:
        return [unknown(NAME, f"not looked for: it takes two classes of {FOLDS} rows")]
    named = judged[suspected(labels[judged], learnt.said[judged], known)]
    return [_errors(material, learnt, labels, named, len(judged)), _ambiguous(material, learnt, labels, named, judged)]


def suspected(labels: NDArray[np.int64], said: NDArray[np.float32], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows whose label is probably wrong, the worst first.

    Args:
        labels: (n,), each among `known`.
        said: (n, outputs) out-of-fold probabilities.
        known: Classes that have enough rows to be judged.
    """
    filters, rank = needed("cleanlab.filter", "cleanlab"), needed("cleanlab.rank", "cleanlab")
    places = np.searchsorted(known, labels)
    p = said[:, known].astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    # The estimated noise says how many; which is said better by how little a probe believes the label: hard rows stay.
    count = int(filters.find_label_issues(places, p, filter_by="prune_by_noise_rate", n_jobs=1).sum())
    rows = np.argsort(rank.get_label_quality_scores(places, p, method="self_confidence"), kind="stable")[:count]
    return np.asarray(rows, dtype=np.int64)


def _errors(
    material: Material, learnt: Learnt, labels: NDArray[np.int64], named: NDArray[np.int64], judged: int
) -> Finding:
    names = material.data.dataset.labels
    if not len(named):
        return fine(NAME, f"no label of {judged:,} is contradicted")
    left_out = np.zeros(len(labels), dtype=bool)
    left_out[named] = True
    better = learnt.without(left_out).argmax(axis=1) == labels
    before = learnt.said.argmax(axis=1) == labels
    points = 100 * float(better[~left_out].mean() - before[~left_out].mean())
    share = len(named) / judged
    rows = [
        Row(DATA, int(material.data.sampled[row]), _why(names, labels[row], learnt.said[row])) for row in named.tolist()
    ]
    return Finding(
        NAME, "alarm" if share >= SHARE else "note",
        f"{len(named):,} of {judged:,} rows ({share:.1%}) probably have the wrong label",
        "look at the first of them, and correct or leave them out; the likely label stands beside each",
        rows, len(named), points, True, {"share": share, "judged": judged},
    )  # fmt: skip


def _ambiguous(
    material: Material, learnt: Learnt, labels: NDArray[np.int64], named: NDArray[np.int64], judged: NDArray[np.int64]
) -> Finding:
    two = np.sort(learnt.said, axis=1)[:, -2:]
    unsure = (two[:, 0] > 0.35) & (two.sum(axis=1) > 0.8)
    unsure[named] = False
    rows = [row for row in judged.tolist() if unsure[row]]
    if not rows:
        return fine(UNSURE, "no row is between two classes")
    names = material.data.dataset.labels
    pairs: dict[tuple[str, str], int] = {}
    for row in rows:
        first, second = sorted(np.argsort(learnt.said[row])[-2:].tolist())
        pairs[names[first], names[second]] = pairs.get((names[first], names[second]), 0) + 1
    most = max(pairs, key=lambda pair: pairs[pair])
    return Finding(
        UNSURE, "note",
        f"{len(rows):,} rows lie between two classes, most often {most[0]} and {most[1]} ({pairs[most]:,})",
        "say in writing what tells these classes apart, or join them",
        [Row(DATA, int(material.data.sampled[row]), _why(names, labels[row], learnt.said[row])) for row in rows],
        len(rows),
    )  # fmt: skip


def _why(names: Sequence[str], label: Any, said: NDArray[np.float32]) -> str:
    first, second = np.argsort(said)[::-1][:2].tolist()
    other = first if first != label else second
    return f"labelled {names[label]} ({said[label]:.2f}), looks like {names[other]} ({said[other]:.2f})"
