"""The drawings of a report, each from its facts. Nothing is drawn where there is nothing to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from adapterhub_lite.pages.drawing import ACCENT, INK, LINE, MUTED, SECOND, THIRD, figure, name, svg
from adapterhub_lite.reporting.lines import SHARES

COLOURS = (ACCENT, SECOND, THIRD, MUTED)


def beside(facts: Mapping[str, Any]) -> Markup | None:
    """The adapter's score and those of the baselines, with their intervals."""
    metric, metrics = facts["metric"], facts["metrics"]
    if metrics.get(metric) is None or not facts["baselines"]:
        return None
    ends = [metrics.get(f"{metric}_low"), metrics.get(f"{metric}_high")]
    own = {"name": "this adapter", "score": metrics[metric], "interval": ends if None not in ends else None}
    models = [*facts["baselines"], own]
    return scores_drawn(models, metric, "Scores of the adapter and of baselines", "beside", "this adapter")


def scores_drawn(models: Sequence[Mapping[str, Any]], metric: str, words: str, number: str, marked: str) -> Markup:
    """A point with an interval for each model; that of the name `marked` in a colour of its own."""
    made, axis = figure(0.75 + 0.3 * len(models))
    for place, model in enumerate(models):
        colour = ACCENT if model["name"] == marked else INK
        if model.get("interval"):
            axis.plot(model["interval"], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axis.plot(model["score"], place, "o", color=colour, markersize=5)
    axis.set_yticks(range(len(models)), [name(model["name"]) for model in models], color=INK, fontsize=9)
    axis.set(ylim=(-0.6, len(models) - 0.4), xlabel=metric.replace("_", " "))
    if metric in SHARES:
        axis.set_xlim(0, 1.02)
    axis.grid(axis="x", color=LINE, linewidth=0.6)
    axis.set_axisbelow(True)
    return svg(made, words, number)


def learning(facts: Mapping[str, Any]) -> Markup | None:
    """The loss of training and of the held-out rows by step, and the metric beside it."""
    curves, metric = facts["curves"], facts["metric"]
    losses, scored = curves["losses"], curves["evaluations"]
    if not losses:
        return None
    own = [(step, scores[metric]) for step, scores in scored if scores.get(metric) is not None]
    two = metric != "loss" and len(own) > 1
    made, axes = figure(4.2 if two else 2.5, rows=1 + two, sharex=True)
    first = axes[0] if two else axes
    first.plot(*zip(*losses, strict=True), color=MUTED, linewidth=1, label="training")
    held_out = [(step, scores["loss"]) for step, scores in scored if scores.get("loss") is not None]
    if held_out:
        first.plot(*zip(*held_out, strict=True), "o-", color=ACCENT, markersize=3.5, linewidth=1.5, label="held-out")
        first.legend(frameon=False, fontsize=8)
    first.set(ylabel="loss", ylim=(0, None))
    if two:
        axes[1].plot(*zip(*own, strict=True), "o-", color=ACCENT, markersize=3.5, linewidth=1.5)
        axes[1].set(ylabel=metric.replace("_", " "))
    best = facts["training"].get("best_step")
    if best is not None and scored:
        for axis in axes if two else [axes]:
            axis.axvline(best, color=SECOND, linewidth=1, linestyle="--")
    (axes[-1] if two else axes).set(xlabel="step")
    return svg(made, "Loss and score by step of training", "learning")


def confused(facts: Mapping[str, Any]) -> Markup | None:
    """The matrix of many classes as a picture: a class a row, in an order that puts those that are mixed up together."""
    told = facts["confusion"]
    if not told or len(told["labels"]) < 2:
        return None
    import numpy as np
    from matplotlib.colors import to_rgba

    counts = np.array(told["counts"], dtype=np.float64)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    n = len(counts)
    made, axis = figure(max(3.2, 1.2 + 0.125 * n), width=max(5.0, min(7.5, 2.2 + 0.09 * n)))
    right, wrong = (np.array(to_rgba(colour)) for colour in ("#3b78b5", "#d0561f"))
    pixels = np.where(np.eye(n, dtype=bool)[:, :, None], right, wrong)
    pixels[:, :, 3] = np.where(counts > 0, 0.2 + 0.8 * shares, 0.0)
    axis.imshow(pixels, aspect="auto", interpolation="nearest")
    axis.set_yticks(range(n), [name(label) for label in told["labels"]], color=INK, fontsize=min(8, 6.5))
    axis.set_xticks([])
    axis.set(xlabel="predicted, in the same order")
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    for place in range(4, n, 5):
        axis.axhline(place + 0.5, color=LINE, linewidth=0.4)
        axis.axvline(place + 0.5, color=LINE, linewidth=0.4)
    return svg(made, f"Confusion matrix of {n} classes", "confused")


def calibrated(facts: Mapping[str, Any]) -> Markup | None:
    """What probabilities say against what came true, and how many there are of each."""
    bins = (((facts["scores"] or {}).get("detail") or {}).get("calibration") or {}).get("bins")
    if not bins:
        return None
    made, axes = figure(3.9, rows=2, sharex=True, height_ratios=[3, 1])
    axes[0].plot([0, 1], [0, 1], color=LINE, linewidth=1.2)
    for one in bins:
        axes[0].plot([one["probability"]] * 2, one["interval"], color=ACCENT, linewidth=1.5)
        axes[0].plot(one["probability"], one["right"], "o", color=ACCENT, markersize=4)
    axes[0].set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="share that is right")
    axes[1].bar([one["low"] for one in bins], [one["n"] for one in bins], 1 / 15.5, align="edge", color=MUTED)
    axes[1].set(xlabel="probability that is given", ylabel="rows")
    axes[1].yaxis.get_major_locator().set_params(integer=True, nbins=3)
    return svg(made, "Calibration: probabilities against the share that is right", "calibrated")


def moved(facts: Mapping[str, Any]) -> Markup | None:
    """How far each layer's weights moved, over their own size."""
    rows = [row for row in facts["trained"].get("layers", ()) if row["update"] is not None and row["base"]]
    if len(rows) < 2:
        return None
    made, axis = figure(2.2)
    axis.bar([row["layer"] for row in rows], [row["update"] / row["base"] for row in rows], color=ACCENT, width=0.7)
    axis.set(xlabel="layer", ylabel="change / weight (norms)")
    if len(rows) > 16:
        axis.set_xticks(range(0, len(rows), 4), [row["layer"] for row in rows][::4])
    return svg(made, "Size of the change of each layer's weights", "moved")


def by_position(facts: Mapping[str, Any]) -> Markup | None:
    """The loss of tokens by their place in the answer, of the bare base and with the adapter."""
    told = facts.get("by_position")
    if not told or len(told["buckets"]) < 2:
        return None
    made, axis = figure(2.4)
    ends = [places(one) for one in told["buckets"]]
    axis.plot(ends, [one["bare"] for one in told["buckets"]], "o-", color=MUTED, markersize=4, label="bare base")
    axis.plot(ends, [one["adapted"] for one in told["buckets"]], "o-", color=ACCENT, markersize=4, label="adapter")
    axis.legend(frameon=False, fontsize=8)
    axis.set(xlabel="place of the token in what is learnt", ylabel="loss (nats)", ylim=(0, None))
    return svg(made, "Loss by place of the token, before and after", "position")


def places(bucket: Mapping[str, Any]) -> str:
    """The places of tokens that are put together, in words."""
    if bucket["to"] is None:
        return f"{bucket['from']}+"
    return f"{bucket['from']}" if bucket["to"] == bucket["from"] else f"{bucket['from']}–{bucket['to']}"


def values(facts: Mapping[str, Any], points: Sequence[Sequence[float]]) -> Markup | None:
    """Predicted against wanted numbers."""
    if len(points) < 2:
        return None
    wanted, said = zip(*points, strict=True)
    ends = [min(*wanted, *said), max(*wanted, *said)]
    made, axis = figure(3.6)
    axis.plot(ends, ends, color=MUTED, linewidth=1)
    axis.scatter(wanted, said, s=9, color=ACCENT, alpha=0.5, linewidths=0)
    axis.set(xlabel="wanted", ylabel="predicted")
    return svg(made, "Predicted against wanted numbers", "values")


def through_time(facts: Mapping[str, Any]) -> Markup | None:
    """What was wanted and said of the windows of some series, as time goes on."""
    told = facts.get("through_time") or ()
    if not told:
        return None
    value = facts["adapter"]["kind"] == "value"
    made, axes = figure(0.5 + 1.35 * len(told), rows=len(told), squeeze=False)
    for axis, one in zip(axes[:, 0], told, strict=True):
        wanted, said = zip(*one["points"], strict=True)
        if value:
            axis.plot(wanted, color=MUTED, linewidth=1.2, label="wanted")
        axis.plot(said, color=ACCENT, linewidth=1.2, label="predicted")
        axis.set_title(f"series {name(one['group'])}", loc="left", fontsize=8, color=INK)
        if not value:
            axis.set_ylim(-0.02, 1.05)
    if value:
        axes[0, 0].legend(frameon=False, fontsize=8)
    axes[-1, 0].set(xlabel="windows, in their order")
    made.supylabel("number" if value else "probability of the class that is wanted", fontsize=9, color=INK)
    return svg(made, "Predictions over time", "time")


def line(series: Sequence[Sequence[float | None]]) -> Markup:
    """A thinned series as a small drawing, a line a channel, each over its own range."""
    width, height, lines = 240, 64, []
    for number, channel in enumerate(series):
        known = [value for value in channel if value is not None]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        step = width / max(1, len(channel) - 1)
        points = " ".join(
            f"{place * step:.1f},{height - 4 - (value - low) / ((high - low) or 1.0) * (height - 8):.1f}"
            for place, value in enumerate(channel)
            if value is not None
        )
        colour = ("accent", "second", "third", "muted")[number % 4]
        lines.append(f'<polyline points="{points}" fill="none" style="stroke: var(--{colour})" stroke-width="1.3"/>')
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="The series">'
    )
    return Markup(f"{opening}{''.join(lines)}</svg>")
