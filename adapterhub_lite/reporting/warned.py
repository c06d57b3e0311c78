"""What a reader has to know before the scores are believed, the gravest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapterhub_lite.data.roles.columns import counted, shortened
from adapterhub_lite.reporting.known import Known
from adapterhub_lite.training.config import NOT_CHOSEN

WIDE, UNSURE = 0.1, 0.1
"""An interval of a share that says little; an expected calibration error from which probabilities mislead."""
FEW_OF_CLASS = 10
MOST_COMPARED = 200_000
"""Rows up to which it is looked for texts that are both learnt from and held out."""
MATTERS = 0.02
"""A share of repeated rows that moves a score by as much as a person would like to see."""


def warnings_of(known: Known, facts: Mapping[str, Any]) -> list[str]:
    """Warnings in words; each says what was seen and what to do about it."""
    share, told = repeated(known)
    return [
        *_of_rows(known),
        *(told if share >= MATTERS else []),
        *_of_baselines(facts),
        *([str(known.adapter.training[NOT_CHOSEN])] if NOT_CHOSEN in known.adapter.training else []),
        *(f"a check was overruled: {one}" for one in known.adapter.forced),
        *_of_classes(facts),
        *_of_slices(facts),
        *_of_intervals(facts),
        *_of_calibration(facts),
        *(told if share < MATTERS else []),
        *known.adapter.notes,
    ]


def _of_rows(known: Known) -> list[str]:
    """Nothing held out, or one class alone."""
    held_out = known.held_out
    if not known.adapter.metrics:
        return [
            "nothing was held out, so that it is not known how good this is; score it on labelled rows that it has not seen, "
            "with --eval-data or --hold-out, or now with `adapterhub-lite evaluate`"
        ]
    targets = held_out.targets if held_out is not None else None
    if known.kind == "class" and targets and len(set(targets)) == 1:
        return ["all held-out rows are of one class, so that the scores say nothing of the others"]
    return []


def repeated(known: Known) -> tuple[float, list[str]]:
    """The share of held-out texts that were learnt from as well, and a warning where there are some."""
    held_out, learnt_from = known.held_out, known.learnt_from
    if learnt_from is None or held_out is None or known.task.modality != "text":
        return 0.0, []
    if max(len(learnt_from), len(held_out)) > MOST_COMPARED:
        known.left_out.append(f"texts are not looked for in what was learnt from beyond {MOST_COMPARED:,} rows")
        return 0.0, []
    new = {_normal(item) for item in held_out.inputs}
    seen = {text for item in learnt_from.inputs if (text := _normal(item)) in new}  # one text at a time in memory
    again = sum(_normal(item) in seen for item in held_out.inputs)
    share = again / max(1, len(held_out))
    text = (
        f"{counted(again, 'held-out row')} ({share:.1%}) {'is' if again == 1 else 'are'} in the rows that were learnt from as "
        "well, word for word; scores on such rows say nothing about new ones: take them out of one of the two"
    )
    return share, [text] if again else []


def _of_baselines(facts: Mapping[str, Any]) -> list[str]:
    """A baseline that is as good, by the interval of the adapter's own score."""
    metric, metrics = facts["metric"], facts["metrics"]
    low, high = metrics.get(f"{metric}_low"), metrics.get(f"{metric}_high")
    if low is None or high is None:
        return []
    sign = 1 if facts["higher_is_better"] else -1
    edge = low if sign > 0 else high
    as_good = [one for one in facts["baselines"] if sign * one["score"] >= sign * edge]
    if not as_good:
        return []
    best = max(as_good, key=lambda one: sign * one["score"])
    return [
        f"{best['name']} is as good within the uncertainty ({metric} {best['score']:.3f} against {metrics[metric]:.3f}, 95 % "
        f"{low:.3f} to {high:.3f}): label more rows, try another base, or take the simpler model"
    ]


def _of_classes(facts: Mapping[str, Any]) -> list[str]:
    """Classes that are never predicted, and classes with too few held-out rows to say anything."""
    classes: Sequence[Mapping[str, Any]] = facts["classes"]
    made = []
    never = [one["label"] for one in classes if one["n"] and not one["predicted"]]
    if never:
        made.append(f"never predicted: {shortened(never)}; label more rows of them")
    few = [one for one in classes if 0 < one["n"] < FEW_OF_CLASS]
    if few:
        made.append(
            f"{counted(len(few), 'class', 'classes')} of {len(classes)} have fewer than {FEW_OF_CLASS} held-out rows: of these "
            "the scores by class are little more than chance"
        )
    return made


def _of_slices(facts: Mapping[str, Any]) -> list[str]:
    worse = [one for one in facts["slices"] if one["worse"]]
    return [
        f"worse where {one['column']} is {one['value']}: {one['score']:.3f} on {one['n']} rows; label more of these"
        for one in worse[:3]
    ]


def _of_intervals(facts: Mapping[str, Any]) -> list[str]:
    metric, metrics = facts["metric"], facts["metrics"]
    low, high = metrics.get(f"{metric}_low"), metrics.get(f"{metric}_high")
    if low is None or high is None or metric in ("rmse", "mae", "loss") or high - low <= WIDE:
        return []
    return [
        f"{int(metrics['n'])} held-out rows say little: {metric} is somewhere from {low:.3f} to {high:.3f}; four times as many "
        "rows halve that"
    ]


def _of_calibration(facts: Mapping[str, Any]) -> list[str]:
    detail = (facts["scores"] or {}).get("detail") or {}
    ece = (detail.get("calibration") or {}).get("ece")
    if ece is None or ece <= UNSURE:
        return []
    said, right = detail["calibration"]["mean_probability"], detail["calibration"]["right"]
    return [
        f"probabilities mislead: {said:.0%} on average where {right:.0%} come true; choose no threshold by them before they "
        "are calibrated"
    ]


def _normal(item: Any) -> str:
    return " ".join(str(item).casefold().split())
