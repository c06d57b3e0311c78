"""From the log to the table in SCORES.md and the curves of label efficiency."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.scores.jobs import Job
from benchmarks.scores.table import BARS, CURVES, HELD

Runs = Mapping[tuple[str, int], Mapping[str, Any]]
BEGIN, END = "<!-- bars, by benchmarks.scores -->\n", "<!-- end of bars -->\n"
COLUMNS = "metric | score | 95 % of seed 0 | seeds | seconds | GB | adapter MB |"
OPENING = """\
# Scores

Made by `python -m benchmarks.scores`; the runs are in [scores.jsonl](scores.jsonl), one a line, with options, versions and
date. A score is the mean over the seeds, each of which draws initialisation, order and, where labels are few, the rows; ± is
the standard deviation over seeds. The interval in brackets is the 95 % interval of the first seed over the rows of the test
file. Seconds are of the whole command with an empty cache; memory is the peak of its process. Where scores.jsonl has
"threads": "1", up to four runs shared two cores: their seconds say what the run took there and are not for comparing
ways. What is held against a bar has three seeds or more (RESULTS.md has these rows by themselves), the others what they say.
Batches are drawn at random; only the row of unfair_tos with 3 epochs is from when they were of similar lengths
(RESULTS.md).
"""


def write_report(jobs: Sequence[Job], runs: Runs, folder: Path) -> None:
    """Write SCORES.md, a picture for each curve that has points, and the table of the bars in RESULTS.md."""
    parts = [OPENING]
    for data in dict.fromkeys(job.data for job in jobs if not job.curve):
        mine = [job for job in jobs if job.data == data and not job.curve]
        rows = [f"| {job.way} | {cells}" for job in mine if (cells := _cells(job, runs))]
        if rows:
            head = f"| {data} | {COLUMNS}"
            bar = f"\nBar: {BARS[data]}.\n" if data in BARS else ""
            parts.append("\n".join([f"## {data}", bar, head, "|---|---|---|---|---|---|---|---|", *rows]) + "\n")
    for data, axis in CURVES.items():
        points = curve(data, jobs, runs)
        if points:
            draw(data, axis, points, folder / f"labels_{data}.png")
            parts.append(_curve_table(data, axis, points))
    (folder / "SCORES.md").write_text("\n".join(parts), encoding="utf-8")
    results = folder / "RESULTS.md"
    before, _, rest = results.read_text(encoding="utf-8").partition(BEGIN)
    results.write_text(before + BEGIN + held(jobs, runs) + END + rest.partition(END)[2], encoding="utf-8")


def held(jobs: Sequence[Job], runs: Runs) -> str:
    """The table of what is held against the bars, one row of `HELD` a line."""
    by_name = {job.name: job for job in jobs}
    lines = [
        "",
        f"| data | way | {COLUMNS}",
        "|---" * 9 + "|",
    ]
    for name in HELD:
        data, *way = name.split(" | ")
        cells = _cells(by_name[name], runs)
        if cells is not None:
            lines.append(f"| {data} | {', '.join(way)} | {cells}")
    return "\n".join([*lines, ""])


class Point(NamedTuple):
    """A point of a curve: mean and standard deviation of the scores of some seeds."""

    labels: int
    score: float
    spread: float
    seeds: int


def curve(data: str, jobs: Sequence[Job], runs: Runs) -> dict[str, list[Point]]:
    """By way, in the order of labels; rows of "DATA, so many" are points of DATA's curve."""
    points: dict[str, list[Point]] = {}
    jobs = [job for job in jobs if job.data.partition(",")[0] == data and job.labels is not None]
    for job in sorted(jobs, key=lambda job: job.labels or 0):
        scores = [float(run["score"]) for run in _of(job, runs)]
        if scores:
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            points.setdefault(job.way, []).append(Point(job.labels or 0, statistics.mean(scores), spread, len(scores)))
    return points


def best_of(lines: Sequence[Sequence[Point]], higher: bool) -> list[Point]:
    """The best point of several lines at each number of labels: the control at its better rate."""
    best: dict[int, Point] = {}
    for point in sorted((point for line in lines for point in line), key=lambda point: point.score, reverse=not higher):
        best[point.labels] = point
    return [best[labels] for labels in sorted(best)]


def labels_for(goal: float, line: Sequence[Point], higher: bool) -> float:
    """Labels at which a line first reaches a score, between points on a logarithmic axis; infinite if it never does."""
    sign = 1 if higher else -1
    for before, point in zip([None, *line[:-1]], line, strict=True):
        if sign * point.score >= sign * goal:
            if before is None:
                return point.labels
            share = (goal - before.score) / (point.score - before.score)
            return math.exp(math.log(before.labels) + share * (math.log(point.labels) - math.log(before.labels)))
    return math.inf


def saved_at_most(way: Sequence[Point], control: Sequence[Point], higher: bool) -> str:
    """How many times fewer labels a way needs for the control's best score."""
    best = max(control, key=lambda point: point.score if higher else -point.score)
    needed = labels_for(best.score, way, higher)
    if math.isinf(needed):
        return "not reached"
    if needed == way[0].labels:
        return f"more than {best.labels / needed:.1f}" if best.labels > needed else ""  # one point alone says nothing
    return f"{best.labels / needed:.1f}"


def saved_at_fewest(way: Sequence[Point], control: Sequence[Point], higher: bool) -> str:
    """How many times more labels the control needs for what a way reaches with its fewest."""
    needed = labels_for(way[0].score, control, higher)
    if math.isinf(needed):
        return f"more than {control[-1].labels / way[0].labels:.1f}" if control[-1].labels > way[0].labels else ""
    return "none" if needed <= way[0].labels else f"{needed / way[0].labels:.1f}"


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
    ticks = sorted({point.labels for line in points.values() for point in line})
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


def _cells(job: Job, runs: Runs) -> str | None:
    """The end of a row, under `COLUMNS`; None where nothing was run."""
    done = _of(job, runs)
    if not done:
        return None
    scores = [float(run["score"]) for run in done]
    spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    interval = " to ".join(f"{end:.4f}" for end in done[0]["interval"])
    seconds = statistics.median(run["seconds"] for run in done)
    peak, size = max(run["peak_gb"] for run in done), done[0]["size_mb"]
    return (
        f"{job.metric} | {statistics.mean(scores):.4f}{spread} | {interval} | {len(done)} | {seconds:.0f} | "
        f"{peak:.1f} | {f'{size:.2f}' if size else ''} |"
    )


def _curve_table(data: str, axis: tuple[str, str, bool], points: Mapping[str, list[Point]]) -> str:
    unit, metric, higher = axis
    numbers = sorted({point.labels for line in points.values() for point in line})
    lines = [f"## {data}: {metric} by {unit}", "", f"![{metric} against {unit}](labels_{data}.png)", ""]
    lines += ["| way | " + " | ".join(map(str, numbers)) + " | saved at the fewest | saved at scratch's best |"]
    lines += ["|---" * (len(numbers) + 3) + "|"]
    control = best_of([line for way, line in points.items() if "scratch" in way], higher)
    for way, line in points.items():
        known = {point.labels: f"{point.score:.4f} ({point.seeds})" for point in line}
        saved = ["", ""]
        if control and "scratch" not in way:
            saved = [saved_at_fewest(line, control, higher), saved_at_most(line, control, higher)]
        lines.append(f"| {way} | " + " | ".join([*(known.get(n, "") for n in numbers), *saved]) + " |")
    lines.append("")
    lines.append(
        "In brackets the number of seeds, each with its own draw of the labels. Saved at the fewest: how many times more "
        "labels training from scratch needs for the first score of the row. Saved at scratch's best: how many times fewer "
        "labels reach the best score of training from scratch. Between points along a logarithmic axis.\n"
    )
    return "\n".join(lines)


def _of(job: Job, runs: Runs) -> list[Mapping[str, Any]]:
    """The runs of a job, by seed."""
    return [runs[job.name, seed] for seed in range(job.seeds) if (job.name, seed) in runs]
