"""Rows that come twice: the same or nearly the same, in one side or in both, and those whose labels disagree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.auditing.alike import alike
from adapterhub_lite.auditing.finding import DATA, HELD_OUT, Finding, Row, fine
from adapterhub_lite.auditing.material import Material, Side
from adapterhub_lite.data.roles.groups import numbered

BOTH, REPEATED, NEAR, CONFLICT = "rows in both splits", "repeated rows", "nearly repeated rows", "conflicting labels"
LEAK, MANY_CONFLICTS, MANY = 0.01, 0.005, 0.1
"""Shares of the rows from which on it is an alarm: in both splits, with conflicting labels, repeated."""

Links = Mapping[tuple[str, int], tuple[tuple[str, int], str]]
"""Of rows the row that each repeats, an earlier one, and what says so."""


def twins(material: Material, *, near: bool = True) -> list[Finding]:
    """Everything about rows that come twice.

    Args:
        material: What is looked at.
        near: Look for rows that are nearly the same as well, which takes longer.

    Raises:
        ConfigError: a library is not installed.
    """
    within, across = _equal(material)
    pairs = _near(material) if near else {}
    nearly_within = {row: link for row, link in pairs.items() if row[0] == link[0][0] and row not in within}
    nearly_across = {row: link for row, link in pairs.items() if row[0] != link[0][0] and row not in across}
    told = [_repeated(material, REPEATED, within, drops=True)]
    if near:
        told.append(_repeated(material, NEAR, nearly_within, drops=False))
    if material.held_out is not None:
        told.insert(0, _leak(material, material.held_out, {**nearly_across, **across}, len(across)))
    if material.data.labels is not None:
        told.append(_conflicts(material, {**nearly_within, **nearly_across, **within, **across}))
    return told


def _equal(material: Material) -> tuple[Links, Links]:
    """Rows that repeat an earlier row of their side, and rows to score on that are in the data."""
    within, across = {}, {}
    first_of_data = _firsts(material.data.keys)
    for side in material.sides:
        first = first_of_data if side is material.data else _firsts(side.keys)
        _, place = np.unique(side.keys, return_inverse=True)
        for row in np.flatnonzero(np.bincount(place)[place] > 1).tolist():
            earlier = first[int(side.keys[row])]
            if earlier != row:
                within[side.name, row] = (side.name, earlier), "the same"
        if side is not material.data:
            for row in np.flatnonzero(np.isin(side.keys, material.data.keys)).tolist():
                across[side.name, row] = (DATA, first_of_data[int(side.keys[row])]), "the same"
    return within, across


def _firsts(keys: NDArray[np.int64]) -> dict[int, int]:
    values, places = np.unique(keys, return_index=True)
    return dict(zip(values.tolist(), places.tolist(), strict=True))


def _near(material: Material) -> Links:
    """Of the rows at hand those that are nearly the same as another one; rows of one group are alike by their nature."""
    sides, learnt = list(material.sides), material.learnt
    places = [(side.name, int(row)) for side in sides for row in side.sampled]
    groups = [
        None if side.dataset.groups is None else side.dataset.groups[int(row)] for side in sides for row in side.sampled
    ]
    keys = np.concatenate([side.keys[side.sampled] for side in sides]).tolist()
    first_like: dict[tuple[str, int, Hashable], int] = {}
    first = [
        first_like.setdefault((place[0], key, group), number)
        for number, (place, key, group) in enumerate(zip(places, keys, groups, strict=True))
    ]
    rows = list(first_like.values())  # one for all that are equal: they have the same twins
    units = np.asarray(numbered([row if groups[row] is None else (places[row][0], groups[row]) for row in rows]))
    items = [item for side in sides for item in side.items]
    texts = [text for side in sides for text in side.texts] if material.modality == "text" else []
    features = None
    if learnt is not None:
        features = learnt.features if learnt.held_out is None else np.concatenate([learnt.features, learnt.held_out])
        features = features[rows]
    chosen, of_text = [items[row] for row in rows], [texts[row] for row in rows] if texts else []
    links: dict[int, tuple[int, str]] = {}
    for (one, other), how in alike(chosen, of_text, material.modality, features, units).items():
        twin, row = rows[one], rows[other]
        known = links.get(row)
        across = places[twin][0] != places[row][0]
        if known is None or (across and places[known[0]][0] == places[row][0]):
            links[row] = twin, how
    return {places[row]: (places[links[like][0]], links[like][1]) for row, like in enumerate(first) if like in links}


def _repeated(material: Material, name: str, links: Links, *, drops: bool) -> Finding:
    rows = [Row(side, row, how, partner) for (side, row), (partner, how) in sorted(links.items()) if side == DATA]
    n = len(material.data)
    if not rows:
        return fine(name, f"none in {n:,} rows")
    return Finding(
        name, "alarm" if len(rows) >= MANY * n else "note",
        f"{len(rows):,} of {n:,} rows ({len(rows) / n:.1%}) repeat an earlier one" + ("" if drops else ", but for a little"),
        "keep one of each; a split by chance would put them on both sides", rows, len(rows), drops=drops,
    )  # fmt: skip


def _leak(material: Material, held_out: Side, links: Links, equal: int) -> Finding:
    rows = [Row(HELD_OUT, row, how, partner) for (_, row), (partner, how) in sorted(links.items())]
    n = len(held_out)
    if not rows:
        return fine(BOTH, f"none of {n:,} rows to score on is in the data")
    twin = np.zeros(n, dtype=bool)
    twin[[row.place for row in rows]] = True
    return Finding(
        BOTH, "alarm" if len(rows) >= LEAK * n else "note",
        f"{len(rows):,} of {n:,} rows to score on ({len(rows) / n:.1%}) are in the data too: {equal:,} the same, "
        f"{len(rows) - equal:,} nearly",
        "leave them out of the data; the score is of new rows only without them",
        rows, len(rows), gained(material, twin), True,
    )  # fmt: skip


def gained(material: Material, doubtful: NDArray[np.bool_]) -> float | None:
    """The points by which the score of a probe is higher than on the rows to score on that are not doubtful."""
    held_out, learnt = material.held_out, material.learnt
    if held_out is None or learnt is None or learnt.held_out_said is None or held_out.labels is None:
        return None
    right = learnt.held_out_said.argmax(axis=1) == held_out.labels[held_out.sampled]
    rest = ~doubtful[held_out.sampled]
    return 100 * float(right.mean() - right[rest].mean()) if rest.any() else None


def _conflicts(material: Material, links: Links) -> Finding:
    labels = {side.name: side.labels for side in material.sides}
    names, rows = material.data.dataset.labels, []
    total = sum(len(side) for side in material.sides)
    for (side, row), (partner, how) in sorted(links.items()):
        mine, theirs = _label(labels[side], row), _label(labels[partner[0]], partner[1])
        if mine is not None and theirs is not None and mine != theirs:
            rows.append(Row(side, row, f"{names[mine]}, and {names[theirs]} of its twin ({how})", partner))
    if not rows:
        return fine(CONFLICT, "twins have the same label")
    return Finding(
        CONFLICT, "alarm" if len(rows) >= MANY_CONFLICTS * total else "note",
        f"{len(rows):,} rows have another label than a row of the same or nearly the same content",
        "decide which label is right; as they are, one of each pair counts as a mistake", rows, len(rows), drops=True,
    )  # fmt: skip


def _label(labels: Sequence[int] | NDArray[np.int64] | None, row: int) -> int | None:
    return None if labels is None or row >= len(labels) else int(labels[row])
