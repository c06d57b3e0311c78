"""What a run says and writes down: to the user, into the run folder, and to experiment trackers.

The trackers are TensorBoard, W&B, MLflow and trackio, through those of accelerate. Nothing of a run depends on them: one that
fails is muted with a warning. Without an account or a server everything stays on the machine: TensorBoard's events, an offline
run of W&B and a database of MLflow in the run folder, trackio's files in its own cache. A resumed run goes on in the same
experiment and on the same axis of steps.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.observers import putting_back
from adapterhub_lite.progress import Progress
from adapterhub_lite.training.run.folder import RunFolder

PROJECT = "adapterhub-lite"
EVALUATED = "eval_"
"""What the names of scores begin with in the log."""
NOTE = "tracking.json"
"""In the run folder: under which name the trackers know the run."""


class Journal:
    """The journal of one run; the main process alone writes. `trackers` are the names of those that get the numbers.

    Raises:
        ConfigError: there are trackers, and no folder to keep anything in.
    """

    def __init__(self, progress: Progress, folder: RunFolder | None, trackers: Sequence[str], main: bool):
        if main and trackers and folder is None:
            raise ConfigError(f"tracking with {', '.join(trackers)} needs a run folder; give run_folder=...")
        self._progress, self._folder = progress, folder if main else None
        self._names, self._trackers = trackers, dict[str, Any]()

    def begin(self, run: Run, settings: Mapping[str, Any], step: int) -> None:
        """Start the trackers, or go on with them.

        `step` is the last one that is done; what an interrupted run logged after it is void.
        """
        if self._folder is None or not self._names:
            return
        about = {"strategy": run.strategy, "task": run.task, "base": run.base, "total_steps": run.total_steps}
        configuration = dict(_flat({**about, "training": run.config, "settings": settings}))
        folder, note = self._folder.path, self._folder.path / NOTE
        known: dict[str, str] = json.loads(note.read_text(encoding="utf-8")) if step and note.is_file() else {}
        identifiers = {"id": known.get("id", run.id)}
        for name in self._names:

            def start(name: str = name) -> None:
                tracker = _make(name, folder, identifiers["id"], known.get(name), step)
                tracker.start()
                self._trackers[name] = tracker
                if name == "mlflow":
                    identifiers[name] = tracker.tracker.info.run_id
                if not known:
                    tracker.store_init_configuration(configuration)

            self._guarded(name, start)
        note.write_text(json.dumps(identifiers) + "\n", encoding="utf-8")

    def end(self) -> None:
        """Close the trackers."""
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, tracker.finish)
        self._trackers.clear()

    def step(self, step: int, numbers: dict[str, float], *, targets: float, applied: bool) -> None:
        """Log a step of training."""
        self._write({"step": step, **numbers, "targets": targets, "applied": applied})
        self._track("train", numbers, step)

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """Log the scores on held-out data after a step."""
        self._write({"step": step, **{f"{EVALUATED}{name}": value for name, value in metrics.items()}})
        self._track("eval", metrics, step)

    def observed(self, step: int, name: str, value: float) -> None:
        """Log a number of an observer's."""
        self._write({"step": step, name: value})
        self._track("observed", {name: value}, step)

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

    def _track(self, group: str, numbers: Mapping[str, float], step: int) -> None:
        values = {f"{group}/{name}": value for name, value in numbers.items()}
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, lambda tracker=tracker: tracker.log(dict(values), step=step))  # type: ignore[misc]

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        """Let a tracker do something; one that raises is muted with a warning."""
        failure = None
        with putting_back(None):
            try:
                act()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit in a tracker must not end a run
                failure = one_line(error)
        if failure is not None:
            self._trackers.pop(name, None)
            warnings.warn(
                f"tracker '{name}' failed ({failure}); it is muted for this run", RuntimeWarning, stacklevel=3
            )


def scores_logged(lines: Sequence[Mapping[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """The evaluations among the lines of a log, each with its step."""
    scored = [line for line in lines if any(name.startswith(EVALUATED) for name in line)]
    return [
        (line["step"], {name.removeprefix(EVALUATED): value for name, value in line.items() if value is not None})
        for line in scored
    ]


def _make(name: str, folder: Path, identifier: str, known: str | None, step: int) -> Any:
    """A tracker of accelerate's, one that stays on this machine unless an account or a server is set up."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # without which those trackers cannot even say what they do
    make, title = LOGGER_TYPE_TO_CLASS[name], folder.name.removesuffix(".run")
    if name == "tensorboard":
        return make(title, folder / "tensorboard", **({"purge_step": step + 1} if step else {}))
    if name == "wandb":
        mode = os.environ.get("WANDB_MODE", "online" if "WANDB_API_KEY" in os.environ else "offline")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return make(project, name=title, id=identifier, resume="allow", mode=mode, dir=str(folder))
    if name == "trackio":
        return make(PROJECT, name=f"{title}-{identifier}", resume="allow")
    import mlflow

    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
    artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else (folder.resolve() / "mlflow").as_uri()
    return make(experiment_name=PROJECT, logging_dir=artifacts, run_id=known, run_name=title)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Nested settings as pairs of a dotted name and a plain value; what is not set is left out."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            pairs.append((f"{prefix}{name}", value if isinstance(value, (bool, int, float, str)) else str(value)))
    return pairs
