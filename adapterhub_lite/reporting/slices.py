"""Scores of parts of the held-out rows: by class with the rows that were learnt from, by columns of the table, by length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from statistics import fmean, stdev
from typing import Any

from adapterhub_lite.reporting.known import Known
from adapterhub_lite.scoring.wilson import QUANTILE, wilson

MOST_VALUES, MOST_SLICES = 12, 60
"""Of a column that makes slices, and slices in all."""
FEWEST = 10
"""Rows of a slice of which something is said; on fewer the interval is nearly everything."""
LENGTHS = ("shortest third", "middle third", "longest third")


def classes(known: Known) -> list[dict[str, Any]]:
    """Each class or label: rows learnt from and held out, and its scores with Wilson's intervals; the worst first."""
    detail = known.scored.detail.record() if known.scored is not None and known.scored.detail is not None else {}
    learnt: Counter[str] = Counter()
    data = known.learnt_from
    if data is not None and known.kind in ("class", "labels"):
        for target in data.targets or ():
            learnt.update(data.labels[label] for label in (target if isinstance(target, tuple) else (target,)))
    made = []
    for score in detail.get("classes", ()):
        hits = round(score["recall"] * score["n"])
        made.append({
            **score,
            "hits": hits,
            "learnt_from": learnt[score["label"]] if learnt else None,
            "recall_interval": wilson(hits, score["n"]) if score["n"] else None,
            "precision_interval": wilson(hits, score["predicted"]) if score["predicted"] else None,
        })  # fmt: skip
    return sorted(made, key=lambda score: (score["f1"], -score["n"]))


def slices(known: Known, right: Sequence[float] | None) -> list[dict[str, Any]]:
    """The score of each slice of the held-out rows with its interval, and whether it is apart from that of all rows.

    A slice is apart where the score of all others lies outside an interval that is wide enough for as many slices as there
    are (Bonferroni).
    """
    data = known.held_out
    if data is None or right is None:
        return []
    made: list[dict[str, Any]] = []
    for column, values in _columns(known).items():
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            rows.setdefault(value, []).append(row)
        order = sorted(rows, key=lambda value: -len(rows[value])) if column != "length" else [*LENGTHS]
        made += [{"column": column, "value": value, **_score(known, right, rows[value])} for value in order]
    made = made[:MOST_SLICES]
    tests = sum(one["n"] >= FEWEST for one in made)
    for one in made:
        rest = (fmean(right) * len(right) - one["score"] * one["n"]) / max(1, len(right) - one["n"])
        low, high = one["interval"]
        half = (high - low) / 2 * max(1.0, _quantile(tests) / QUANTILE)
        middle = (low + high) / 2
        one["apart"] = FEWEST <= one["n"] < len(right) and abs(rest - middle) > half
        one["worse"] = one["apart"] and (one["score"] > rest if known.kind == "value" else one["score"] < rest)
    return made


def _columns(known: Known) -> dict[str, list[str]]:
    """What slices are made by: columns of few values that play no other role, and the length of texts."""
    data = known.held_out
    assert data is not None
    roles = {name for role, names in data.columns.items() if role != "group" for name in names.split(",")}
    made: dict[str, list[str]] = {}
    table = data.table
    for name in table.columns if table is not None and len(table) == len(data) else ():
        if name in roles:
            continue
        first = {repr(value) for value in islice(table.iterate(name), 1000)} if table is not None else set()
        if 2 <= len(first) <= MOST_VALUES:
            values = ["(none)" if value is None else str(value) for value in table.iterate(name)]  # type: ignore[union-attr]
            if len(set(values)) <= MOST_VALUES:
                made[name] = values
    if known.task.modality == "text" and len(data) >= 3 * FEWEST:
        lengths = [sum(map(len, [item] if isinstance(item, str) else map(str, item))) for item in data.inputs]
        order = sorted(lengths)
        low, high = order[len(order) // 3], order[2 * len(order) // 3]
        if order[0] < low < high:
            made["length"] = [LENGTHS[(length >= low) + (length >= high)] for length in lengths]
    return made


def _score(known: Known, right: Sequence[float], rows: Sequence[int]) -> dict[str, Any]:
    own = [right[row] for row in rows]
    if known.kind != "value":
        return {"n": len(own), "score": fmean(own), "interval": wilson(round(sum(own)), len(own))}
    half = QUANTILE * stdev(own) / len(own) ** 0.5 if len(own) > 1 else float(max(right))
    return {"n": len(own), "score": fmean(own), "interval": (fmean(own) - half, fmean(own) + half)}


def _quantile(tests: int) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - 0.025 / max(1, tests))
