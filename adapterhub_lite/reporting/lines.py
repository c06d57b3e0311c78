"""The five lines that matter: what, on what, how good, beside what, and the biggest warning. In plain words, from the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapterhub_lite.pages.render import cut

SOME = 5
"""Labels that are named in a line."""
SHARES = ("accuracy", "macro_f1", "micro_f1", "f1", "entity_f1", "exact_match", "coverage")
"""Metrics that are written in percent."""
WORDS = {
    "accuracy": "right answers",
    "rmse": "root mean squared error",
    "mae": "mean error",
    "loss": "loss, nats a token",
}
GIVEN = {"text": "texts", "image": "images", "series": "series"}


def five_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What each line is about, and the line."""
    warnings = facts["warnings"]
    return [
        ("What", _what(facts)),
        ("Learnt from", _on_what(facts)),
        ("How good", how_good(facts)),
        ("Beside", _beside(facts)),
        ("Biggest warning", _sentence(warnings[0]) if warnings else "None of what is checked here."),
    ]


def score_text(metric: str, value: float | None) -> str:
    """A score as a person reads it."""
    if value is None:
        return "–"
    return f"{value:.1%}" if metric in SHARES else f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def with_interval(metric: str, value: float | None, interval: Any) -> str:
    """A score with its interval behind it, if there is one with a width."""
    low, high = interval or (None, None)
    if low is None or high is None or low >= high:
        return score_text(metric, value)
    return f"{score_text(metric, value)} (95 %: {score_text(metric, low)} to {score_text(metric, high)})"


def own_interval(facts: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """The interval of a metric of the adapter's."""
    low, high = (facts["metrics"].get(f"{metric}_{end}") for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def how_good(facts: Mapping[str, Any]) -> str:
    """The score with its interval, on how many rows."""
    metric, metrics = facts["metric"], facts["metrics"]
    if metrics.get(metric) is None:
        return "Not known: no rows were held out to score on."
    n = f"{int(metrics['n']):,} held-out rows" if metrics.get("n") else "held-out rows"
    grouped = ", for new groups" if facts["data"].get("grouped") else ""
    name = WORDS.get(metric, metric.replace("_", " "))
    return (
        f"{_capital(name)}: {with_interval(metric, metrics[metric], own_interval(facts, metric))} of {n}{grouped}."
        if (metric == "accuracy")
        else f"{_capital(name)}: {with_interval(metric, metrics[metric], own_interval(facts, metric))} on {n}{grouped}."
    )


def _what(facts: Mapping[str, Any]) -> str:
    adapter, base, trained = facts["adapter"], facts["base"], facts["trained"]
    given, labels = GIVEN.get(adapter["modality"], "inputs"), adapter["labels"]
    does = {
        "class": f"sorts {given} into {len(labels)} classes ({_some(labels)})",
        "labels": f"gives {given} any of {len(labels)} labels ({_some(labels)})",
        "value": f"predicts a number from {given}",
        "tokens": f"marks words of {given} with {len(labels)} labels ({_some(labels)})",
        "text": "continues texts",
    }[adapter["kind"]]
    share = (
        f", {trained['weights']:,} trained weights, {trained['weights'] / base['parameters']:.2%} of the base"
        if (trained.get("weights") and base["parameters"])
        else ""
    )
    return f"A {adapter['strategy']} adapter on {base['reference']} that {does}{share}."


def _on_what(facts: Mapping[str, Any]) -> str:
    data = facts["data"]
    if data["rows"] is None:
        return "Not recorded."
    held_out = f"; scored on {data['held_out']}" if data.get("held_out") and data["held_out"] != data["source"] else ""
    apart = "; scored on rows kept apart from them" if data.get("held_out") == data["source"] else ""
    return f"{data['rows']:,} rows of {data['source']}{held_out}{apart}."


def _beside(facts: Mapping[str, Any]) -> str:
    metric = facts["metric"]
    told = [f"{one['name']} {score_text(metric, one['score'])}" for one in facts["baselines"]]
    forgotten = facts["training"].get("forgetting")
    position = facts.get("by_position")
    if position:
        told.append(
            f"the bare base has a loss of {position['bare']:.3f} on {position['tokens']:,} of the tokens, the adapter "
            f"{position['adapted']:.3f}"
        )
    if isinstance(forgotten, Mapping) and "loss_before" in forgotten:
        told.append(f"on general text loss {forgotten['loss_before']:.3f} before, {forgotten['loss_after']:.3f} after")
    return (
        _capital("; ".join(told)) + "."
        if told
        else "Nothing else was measured on these rows; `adapterhub-lite compare` does."
    )


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SOME} more" if len(labels) > SOME else ""
    return ", ".join(cut(label, 60) for label in labels[:SOME]) + more


def _sentence(text: str) -> str:
    return _capital(text) + ("" if text.endswith(".") else ".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
