"""Several adapters beside each other, from the facts of each: scores, what they cost, and whether a difference is chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapterhub_lite.names import human_size
from adapterhub_lite.pages.content import Card, Cards, Content, Page, Part, Table
from adapterhub_lite.reporting import pictures
from adapterhub_lite.reporting.lines import five_lines, own_interval, score_text, with_interval
from adapterhub_lite.reporting.page import drawn
from adapterhub_lite.scoring.wilson import QUANTILE

MOST_CLASSES = 100
SCORED_ON = ("held_out_sha256", "held_out_rows_sha256")
"""The hash of the file of held-out rows, and that of which rows of it they are."""


def compared_page(facts: Mapping[str, Any]) -> Page:
    """The page of several reports."""
    reports: Sequence[Mapping[str, Any]] = facts["compared"]
    metric = reports[0]["metric"]
    alike = all(one["metric"] == metric for one in reports)
    same = all(same_rows(one, reports[0]) for one in reports)
    known = [one for one in reports if one["metrics"].get(metric) is not None]
    sign = 1 if reports[0]["higher_is_better"] else -1
    best = max(known, key=lambda one: sign * one["metrics"][metric]) if alike and known else None
    lead = [("Adapters", ", ".join(one["name"] for one in reports))]
    if best is not None:
        score = with_interval(metric, best["metrics"][metric], own_interval(best, metric))
        lead.append(("Best score", f"{best['name']}, {score}"))
    warning = _warning(reports, alike=alike, same=same)
    lead.append(("Biggest warning", warning))
    parts = [_scores(reports, metric, best), _each(reports)]
    if alike:
        parts += [part for part in (_classes(reports),) if part is not None]
    return Page(
        title=f"{len(reports)} adapters compared",
        subtitle=f"made {facts['made'].replace('T', ' ').removesuffix('+00:00')} UTC",
        lead=lead,
        parts=parts,
        warned=True,
        foot="Made by adapterhub-lite from the reports of the runs.",
    )


def _warning(reports: Sequence[Mapping[str, Any]], *, alike: bool, same: bool) -> str:
    if not alike:
        return "These adapters do different things: their scores are in different metrics, and cannot be compared."
    if not same or any(one["rows"] is None for one in reports):
        return (
            "They were not all scored on the same rows, as far as is known; a difference may be one of rows. Make the report "
            "with --data FILE to score all of them on one file."
        )
    return "The best of several was chosen by these rows, so that its score flatters a little; score it on new rows."


def _scores(reports: Sequence[Mapping[str, Any]], metric: str, best: Mapping[str, Any] | None) -> Part:
    models = [
        {"name": one["name"], "score": one["metrics"][metric], "interval": own_interval(one, metric)}
        for one in reports
        if one["metrics"].get(metric) is not None
    ]
    content: list[Content] = []
    if models and best is not None:
        words = "Scores of the adapters, with 95 % intervals"
        content += drawn(lambda: pictures.scores_drawn(models, metric, words, "adapters", best["name"]), f"{words}.")
    rows = []
    for one in reports:
        name, trained, seconds = one["metric"], one["trained"], one["machine"].get("seconds")
        low, high = own_interval(one, name) or (None, None)
        rows.append((
            one["name"], one["adapter"]["strategy"], one["data"]["rows"], score_text(name, one["metrics"].get(name)),
            f"{score_text(name, low)} to {score_text(name, high)}" if low is not None else None, paired(one, best),
            trained.get("weights"), human_size(trained["bytes"]) if trained.get("bytes") else None,
            f"{seconds:,} s" if seconds is not None else None,
        ))  # fmt: skip
    columns = ("adapter", "strategy", "rows", metric, "95 %", "beside the best", "weights", "size", "training")
    say = [
        "Beside the best: the difference with its 95 % interval, paired on the same rows; where that holds 0, it may be chance."
    ]
    return Part("Scores", say, [*content, Table("The adapters", columns, rows)])


def same_rows(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two were scored on the same rows of the same file; what is not known is not the same."""
    own, others = ([facts["data"].get(name) for name in SCORED_ON] for facts in (one, other))
    return None not in own and own == others


def paired(one: Mapping[str, Any], best: Mapping[str, Any] | None) -> str | None:
    """The difference of two adapters on the same rows with its interval; None where the rows are not known to be the same.

    Of right and wrong answers and of errors alike: the mean of the differences, row by row, and its normal interval.
    """
    if best is None or one is best or not one["rows"] or not best["rows"]:
        return None
    if not same_rows(one, best) or len(one["rows"]) != len(best["rows"]):
        return None
    gaps = [own - other for own, other in zip(one["rows"], best["rows"], strict=True)]
    n, mean = len(gaps), sum(gaps) / len(gaps)
    half = QUANTILE * (sum((gap - mean) ** 2 for gap in gaps) / max(1, n - 1) / n) ** 0.5
    key = "mae" if one["adapter"]["kind"] == "value" else "accuracy"
    what = "of error" if key == "mae" else ""
    return f"{mean:+.3f} {what}({mean - half:+.3f} to {mean + half:+.3f})".replace("  ", " ")


def _each(reports: Sequence[Mapping[str, Any]]) -> Part:
    return Part("Each in short", (), [Cards([Card(one["name"], five_lines(one)) for one in reports])])


def _classes(reports: Sequence[Mapping[str, Any]]) -> Part | None:
    """F1 of each class of each adapter, the class first on which they differ most."""
    by_class: dict[str, list[float | None]] = {}
    for place, one in enumerate(reports):
        for score in one["classes"]:
            by_class.setdefault(score["label"], [None] * len(reports))[place] = score["f1"]
    if not by_class:
        return None

    def gap(values: Sequence[float | None]) -> float:
        there = [value for value in values if value is not None]
        return max(there) - min(there)

    order = sorted(by_class, key=lambda label: -gap(by_class[label]))[:MOST_CLASSES]
    rows = [(label, *by_class[label], gap(by_class[label])) for label in order]
    columns = ("class", *(one["name"] for one in reports), "largest gap")
    return Part("By class", (), [Table("F1 of each class; those with the largest gap come first", columns, rows)])
