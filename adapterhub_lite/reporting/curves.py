"""The log of a run, and the curves in it. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub_lite.training.run.layout import LOG

MOST_POINTS = 600
"""Of a curve."""
EVALUATED = "eval_"


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log in a run folder; none where there is no log, or none that can be read."""
    try:
        return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def curves(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The losses of steps, thinned, and the scores of evaluations, by step."""
    losses = [(line["step"], line["loss"]) for line in log if line.get("loss") is not None]
    every = max(1, math.ceil(len(losses) / MOST_POINTS))
    thinned = []
    for start in range(0, len(losses), every):
        part = losses[start : start + every]
        thinned.append([part[-1][0], sum(loss for _, loss in part) / len(part)])
    evaluations = [
        [
            line["step"],
            {name.removeprefix(EVALUATED): value for name, value in line.items() if name.startswith(EVALUATED)},
        ]
        for line in log
        if any(name.startswith(EVALUATED) for name in line)
    ]
    return {"losses": thinned, "steps_a_point": every, "evaluations": evaluations}
