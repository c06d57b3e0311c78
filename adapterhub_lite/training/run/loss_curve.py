"""The loss curve of a run as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

PICTURE = "loss.png"


def draw_losses(folder: Path, say: Callable[[str], None]) -> None:
    """Draw metrics.jsonl of a run folder: the loss of each step, and of each evaluation.

    Without matplotlib there is no picture, which is said.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        say("note: no loss curve is drawn, because matplotlib is not installed; pip install 'adapterhub-lite[plots]'")
        return
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]
    scores = [(line["step"], line["eval_loss"]) for line in lines if line.get("eval_loss") is not None]
    if not steps:
        return
    figure = Figure(figsize=(7, 4), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(*zip(*steps, strict=True), linewidth=1, label="training, each step")
    if scores:
        axes.plot(*zip(*scores, strict=True), marker="o", label="held-out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / PICTURE, metadata={"Software": None})
