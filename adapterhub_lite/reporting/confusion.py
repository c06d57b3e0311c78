"""Which classes are taken for which: the counts, in an order that puts classes that are mixed up beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapterhub_lite.reporting.known import Known

MOST_CLASSES = 80
"""Of a matrix; of more, those with the most confusions."""
MIXED = 0.15
"""The share of a class's rows that are taken for another one, from which the two are of one cluster."""
FEWEST_MIXED = 2


def confusion(known: Known) -> dict[str, Any] | None:
    """The matrix in its order, and clusters of classes that are mixed up; None where rows have no one class each."""
    data = known.held_out
    if known.kind != "class" or data is None or known.scored is None or known.scored.rows is None:
        return None
    names = [*data.labels, *data.unknown]
    wanted = np.array(data.targets, dtype=np.int64)
    said = known.scored.rows.outputs.logits.argmax(dim=1).numpy()
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (wanted, said), 1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    mistakes = wrong.sum(axis=0) + wrong.sum(axis=1)
    occurring = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    kept = occurring if len(occurring) <= MOST_CLASSES else occurring[np.argsort(-mistakes[occurring], kind="stable")]
    kept = np.sort(kept[:MOST_CLASSES])
    order = kept[_order(wrong[np.ix_(kept, kept)])]
    return {
        "labels": [names[i] for i in order],
        "counts": counts[np.ix_(order, order)].tolist(),
        "left_out": len(occurring) - len(kept),
        "clusters": _clusters(counts, wrong, names),
    }


def _order(wrong: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An order in which classes that are mixed up are neighbours: by the Fiedler vector of each connected part.

    Source: Atkins, Boman and Hendrickson 1998, A spectral algorithm for seriation (doi:10.1137/S0097539795285771).
    """
    mixed = (wrong + wrong.T).astype(np.float64)
    parts = sorted(_parts(mixed > 0), key=lambda part: (-len(part), part[0]))
    ordered: list[int] = []
    for part in parts:
        own = mixed[np.ix_(part, part)]
        if len(part) > 2:
            _, vectors = np.linalg.eigh(np.diag(own.sum(axis=1)) - own)
            part = [part[i] for i in np.argsort(vectors[:, 1], kind="stable")]
        ordered += part
    return np.array(ordered, dtype=np.int64)


def _clusters(counts: np.ndarray[Any, Any], wrong: np.ndarray[Any, Any], names: list[str]) -> list[dict[str, Any]]:
    """Sets of classes of which one is often taken for another, those with the most mistakes first."""
    rows = np.maximum(1, counts.sum(axis=1, keepdims=True))
    often = (wrong >= FEWEST_MIXED) & (wrong >= MIXED * rows)
    made = [
        {"labels": [names[i] for i in part], "mistakes": int(wrong[np.ix_(part, part)].sum())}
        for part in _parts(often | often.T)
        if len(part) > 1
    ]
    return sorted(made, key=lambda cluster: -cluster["mistakes"])


def _parts(joined: np.ndarray[Any, Any]) -> list[list[int]]:
    """The connected parts of a graph, (n, n) bool, each in ascending order."""
    left, parts = set(range(len(joined))), []
    while left:
        part, new = set(), [min(left)]
        while new:
            node = new.pop()
            if node not in part:
                part.add(node)
                new += np.flatnonzero(joined[node]).tolist()
        left -= part
        parts.append(sorted(part))
    return parts
