"""From the log to the table in SCORES.md and the curves of label efficiency."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.scores.jobs import Job
from benchmarks.scores.table import BARS, CURVES

Runs = Mapping[tuple[str, int], Mapping[str, Any]]
OPENING = """\
# Scores

Made by `python -m benchmarks.scores`; the runs are in [scores.jsonl](scores.jsonl), one a line, with options, versions and
date. A score is the mean over the seeds, each of which draws initialisation, order and, where labels are few, the rows; ± is
the standard deviation over seeds. The interval in brackets is the 95 % interval of the first seed over the rows of the test
file. Seconds are of the whole command with an empty cache; memory is the peak of its process. Where scores.jsonl has
"threads": "1", up to four runs shared two cores: their seconds say what the run took there and are not for comparing
ways. Batches were of similar lengths until 2026-11-23 05:50 and are drawn at random since (RESULTS.md).
"""


def write_report(jobs: Sequence[Job], runs: Runs, folder: Path) -> None:
    """Write SCORES.md and a picture for each curve that has points."""
    parts = [OPENING]
    for data in dict.fromkeys(job.data for job in jobs if not job.curve):
        rows = [line for job in jobs if job.data == data and not job.curve and (line := _row(job, runs))]
        if rows:
            head = f"| {data} | metric | score | 95 % of seed 0 | seeds | seconds | GB | adapter MB |"
            bar = f"\nBar: {BARS[data]}.\n" if data in BARS else ""
            parts.append("\n".join([f"## {data}", bar, head, "|---|---|---|---|---|---|---|---|", *rows]) + "\n")
    for data, axis in CURVES.items():
        points = curve(data, jobs, runs)
        if points:
            draw(data, axis, points, folder / f"labels_{data}.png")
            parts.append(_curve_table(data, axis, points))
    (folder / "SCORES.md").write_text("\n".join(parts), encoding="utf-8")


class Point(NamedTuple):
    """A point of a curve: mean and standard deviation of the scores of some seeds."""

    labels: int
    score: float
    spread: float
    seeds: int


def curve(data: str, jobs: Sequence[Job], runs: Runs) -> dict[str, list[Point]]:
    """By way, in the order of labels."""
    points: dict[str, list[Point]] = {}
    for job in sorted(
        (job for job in jobs if job.data == data and job.labels is not None), key=lambda job: job.labels or 0
    ):
        scores = [float(run["score"]) for run in _of(job, runs)]
        if scores:
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            points.setdefault(job.way, []).append(Point(job.labels or 0, statistics.mean(scores), spread, len(scores)))
    return points


def saved_factor(way: Sequence[Point], control: Sequence[Point], higher: bool) -> str:
    """How many times fewer labels a way needs for the control's best score, between points on a logarithmic axis."""
    sign = 1 if higher else -1
    goal_labels, goal = max(((each.labels, sign * each.score) for each in control), key=lambda point: point[1])
    before: tuple[int, float] | None = None
    for labels, score, _, _ in way:
        reached = sign * score
        if reached >= goal:
            if before is None:
                return f"more than {goal_labels / labels:.0f}"
            share = (goal - before[1]) / (reached - before[1])
            needed = math.exp(math.log(before[0]) + share * (math.log(labels) - math.log(before[0])))
            return f"{goal_labels / needed:.1f}"
        before = (labels, reached)
    return "none: it stays worse"


def draw(data: str, axis: tuple[str, str, bool], points: Mapping[str, list[Point]], path: Path) -> None:
    """A curve a way, scores against labels on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator, ScalarFormatter

    unit, metric, _ = axis
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for way, line in points.items():
        labels, scores, spreads, _ = zip(*line, strict=True)
        style = "--" if "scratch" in way else "-"
        axes.errorbar(labels, scores, yerr=spreads, label=way, marker="o", linestyle=style, capsize=3)
    axes.set_xscale("log")
    ticks = sorted({each.labels for line in points.values() for each in line})
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(unit)
    axes.set_ylabel(metric)
    axes.set_title(f"{data}: what labels buy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _row(job: Job, runs: Runs) -> str | None:
    found = _of(job, runs)
    if not found:
        return None
    scores = [float(run["score"]) for run in found]
    spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    interval = " to ".join(f"{end:.4f}" for end in found[0]["interval"])
    seconds = statistics.median(run["seconds"] for run in found)
    peak, size = max(run["peak_gb"] for run in found), found[0]["size_mb"]
    return (
        f"| {job.way} | {job.metric} | {statistics.mean(scores):.4f}{spread} | {interval} | {len(found)} | {seconds:.0f} | "
        f"{peak:.1f} | {f'{size:.2f}' if size else ''} |"
    )


def _curve_table(data: str, axis: tuple[str, str, bool], points: Mapping[str, list[Point]]) -> str:
    unit, metric, higher = axis
    numbers = sorted({each.labels for line in points.values() for each in line})
    lines = [f"## {data}: {metric} by {unit}", "", f"![{metric} against {unit}](labels_{data}.png)", ""]
    lines += ["| way | " + " | ".join(map(str, numbers)) + " | labels saved |", "|---" * (len(numbers) + 2) + "|"]
    controls = [line for way, line in points.items() if "scratch" in way]
    for way, line in points.items():
        known = {each.labels: f"{each.score:.4f} ({each.seeds})" for each in line}
        factor = saved_factor(line, controls[0], higher) if controls and line not in controls else ""
        lines.append(f"| {way} | " + " | ".join(known.get(n, "") for n in numbers) + f" | {factor} |")
    lines.append("")
    lines.append(
        "In brackets the number of seeds, each with its own draw of the labels. Labels saved: how many times fewer labels "
        "reach the best score of training from scratch.\n"
    )
    return "\n".join(lines)


def _of(job: Job, runs: Runs) -> list[Mapping[str, Any]]:
    """The runs of a job, by seed."""
    return [runs[job.name, seed] for seed in range(job.seeds) if (job.name, seed) in runs]
