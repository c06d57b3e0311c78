"""Ends a run when its loss has not come down for ADAPTERHUB_EARLY_STOP steps."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite

from adapterhub_lite.api import Run, hookimpl


@dataclass
class Watch:
    """What is remembered of one run."""

    patience: int
    recent: deque[float] = field(default_factory=deque)
    best: float = inf
    best_step: int = 0

    def see(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Take in one step; give a reason to stop, if there is one."""
        value = metrics.get("eval_loss")
        if value is None and isfinite(metrics["loss"]):
            self.recent.append(metrics["loss"])
            if len(self.recent) > self.patience:
                self.recent.popleft()
            if len(self.recent) == self.patience:
                value = sum(self.recent) / self.patience
        if value is not None and value < self.best:
            self.best, self.best_step = value, step
        if self.best_step and step - self.best_step >= self.patience:
            return f"no lower loss for {self.patience} steps; the best, {self.best:.4f}, was at step {self.best_step}"
        return None


# By the identity of the run: every plug-in is given one `Run` object for each run, the same in all hooks.
watches: dict[int, Watch] = {}


@hookimpl
def adapterhub_train_start(run: Run) -> None:
    patience = os.environ.get("ADAPTERHUB_EARLY_STOP")
    if patience:
        if not patience.isdigit() or int(patience) < 1:
            raise ValueError(f"ADAPTERHUB_EARLY_STOP={patience} is not a number of steps")
        watches[id(run)] = Watch(int(patience))


@hookimpl
def adapterhub_step_end(run: Run, step: int, metrics: Mapping[str, float]) -> None:
    watch = watches.get(id(run))
    reason = watch.see(step, metrics) if watch is not None else None
    if reason is not None:
        run.stop(reason)


@hookimpl
def adapterhub_train_end(run: Run) -> None:
    watches.pop(id(run), None)
