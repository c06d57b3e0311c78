"""One way of adapting on one part of a set of data: its score row by row on the test part, and its time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.training.config import TrainConfig

RATES = (5e-4, 1e-3, 2e-3, 5e-3)
PASSES = ((5, 15, 40), (3, 8, 20), (2, 5, 12))
"""Epochs of the grid for each of the three sizes."""


@dataclass(frozen=True)
class Way:
    """A way of adapting."""

    name: str
    strategy: str = "lora"
    training: dict[str, Any] = field(default_factory=dict)
    hold_out: float | None = 0.0
    """None as it comes."""


def ways(size: int) -> list[Way]:
    """All ways on the size of that number (0 is the smallest), the most telling first."""
    fixed = {"batch_size": 16, "start_head": "random"}
    passes = PASSES[size]
    grid = [
        Way(f"grid {rate:g} x {epochs}", training={**fixed, "learning_rate": rate, "epochs": epochs})
        for rate in RATES
        for epochs in passes
    ]
    before = Way("before", training={**fixed, "learning_rate": 5e-4, "epochs": 3})
    return [Way("probe", "linear_probe"), before, *grid]


DEFAULTS = (Way("default", hold_out=None), Way("default, all rows"))
"""What is judged: nothing said at all, and nothing but --hold-out 0."""


def measure(engine: Engine, base: Base, train: Dataset, test: Dataset, way: Way, seed: int) -> dict[str, Any]:
    """Train and score; the time is that of this process's threads, which others on the machine change little.

    Returns:
        Rows learnt from, CPU seconds of training (encoding, held-out scores and all), what of the run was recorded, and for
        every row of the test part whether it is right, or how far off.
    """
    started = time.process_time()
    adapter = engine.train(
        base, train, strategy=way.strategy, config=TrainConfig(seed=seed, **way.training), hold_out=way.hold_out
    )
    seconds = time.process_time() - started
    answers = adapter.predict(list(test.inputs))
    assert test.targets is not None
    if test.labels:
        right = [int(answer.label == test.labels[target]) for answer, target in zip(answers, test.targets, strict=True)]
        rows: dict[str, Any] = {"right": "".join(map(str, right))}
    else:
        cap = test.options.get("target_cap") or float("inf")
        truth = [min(float(target), cap) for target in test.targets]
        rows = {
            "off": [round(float(answer.value) - target, 2) for answer, target in zip(answers, truth, strict=True)],
            "spread": sum((target - sum(truth) / len(truth)) ** 2 for target in truth) / len(truth),
        }
    record = {"rows": len(train), "classes": len(train.labels), "cpu": round(seconds, 3), **rows}
    if not way.training:  # what was chosen, where nothing was said
        record["facts"] = dict(adapter.training)
    adapter.detach()
    return record
