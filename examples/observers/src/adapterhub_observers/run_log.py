"""Writes what happens in a run to the file named by ADAPTERHUB_RUN_LOG, one JSON object a line."""

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapterhub_lite.api import hookimpl


def write(event: str, **facts: Any) -> None:
    """Append one line; the file is closed again, so that nothing is lost if the run is killed."""
    if path := os.environ.get("ADAPTERHUB_RUN_LOG"):
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "event": event, **facts}, allow_nan=False)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@hookimpl
def adapterhub_train_start(run):
    write("start", strategy=run.strategy, task=run.task, base=run.base, total_steps=run.total_steps, config=run.config)


@hookimpl
def adapterhub_step_end(step, metrics):
    # JSON has no NaN and no infinity.
    write("step", step=step, **{name: value if math.isfinite(value) else None for name, value in metrics.items()})


@hookimpl
def adapterhub_train_end(error):
    write("end", error=None if error is None else f"{type(error).__name__}: {error}")


@hookimpl
def adapterhub_adapter_saved(path, manifest):
    write("saved", path=str(path), metrics=manifest["metrics"])
