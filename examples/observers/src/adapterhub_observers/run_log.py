"""Writes what happens in a run to the file named by ADAPTERHUB_RUN_LOG, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapterhub_lite.api import Run, hookimpl


def write(event: str, **facts: Any) -> None:
    """Append one line; the file is closed again, so that nothing is lost if the run is killed."""
    if path := os.environ.get("ADAPTERHUB_RUN_LOG"):
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "event": event, **facts}, allow_nan=False)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@hookimpl
def adapterhub_train_start(run: Run) -> None:
    write("start", strategy=run.strategy, task=run.task, base=run.base, total_steps=run.total_steps, config=run.config)


@hookimpl
def adapterhub_step_end(step: int, metrics: Mapping[str, float]) -> None:
    # JSON has no NaN and no infinity.
    write("step", step=step, **{name: value if math.isfinite(value) else None for name, value in metrics.items()})


@hookimpl
def adapterhub_train_end(error: BaseException | None) -> None:
    write("end", error=None if error is None else f"{type(error).__name__}: {error}")


@hookimpl
def adapterhub_adapter_saved(path: Path, manifest: Mapping[str, Any]) -> None:
    write("saved", path=str(path), metrics=manifest["metrics"])
