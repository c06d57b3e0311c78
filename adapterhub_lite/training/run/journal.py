"""What a run says and writes down: to the user, into the run folder, and to trackers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.progress import Progress
from adapterhub_lite.training.run.folder import RunFolder
from adapterhub_lite.training.run.trackers import Trackers


class Journal:
    """The journal of one run; the main process alone writes.

    Args:
        progress: Where the user looks.
        folder: The run folder, if there is one.
        trackers: Names of those that are told of the numbers.
        main: Whether this is the main process.
    """

    def __init__(self, progress: Progress, folder: RunFolder | None, trackers: Sequence[str], main: bool):
        self._progress, self._folder = progress, folder if main else None
        self._trackers = Trackers(trackers if main else (), folder.path if folder is not None else None)

    def begin(self, run: Run, settings: Mapping[str, Any], step: int) -> None:
        """Tell the trackers what is trained, and after which step it goes on."""
        about = {"strategy": run.strategy, "task": run.task, "base": run.base, "total_steps": run.total_steps}
        self._trackers.start({**about, "training": run.config, "settings": settings}, step)

    def end(self) -> None:
        """Tell the trackers that nothing more will come."""
        self._trackers.finish()

    def step(self, step: int, numbers: dict[str, float], *, targets: float, applied: bool) -> None:
        """Log a step of training."""
        self._write({"step": step, **numbers, "targets": targets, "applied": applied})
        self._trackers.log({f"train/{name}": value for name, value in numbers.items()}, step)

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """Log the scores on held-out data after a step."""
        self._write({"step": step, **{f"eval_{name}": value for name, value in metrics.items()}})
        self._trackers.log({f"eval/{name}": value for name, value in metrics.items()}, step)

    def tell(self, line: str) -> None:
        """Say something and write it down."""
        if self._folder is not None:
            self._folder.tell(line)
        else:
            self._progress.say(line)

    def _write(self, values: dict[str, float]) -> None:
        if self._folder is not None:
            # JSON has no infinity and no NaN.
            self._folder.log({name: value if math.isfinite(value) else None for name, value in values.items()})
