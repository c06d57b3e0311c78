"""Experiment trackers: TensorBoard, W&B, MLflow and trackio, through those of accelerate.

They look on, as observers do: nothing of a run depends on them, and one that fails is warned about once and muted. Without
an account or a server everything stays on the machine: events for TensorBoard, an offline run of W&B and a database of
MLflow in the run folder, what trackio keeps in its own cache. A resumed run goes on in the same experiment and on the
same axis of steps.
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.observers import putting_back

PROJECT = "adapterhub-lite"
NOTE = "tracking.json"
"""In the run folder: under which name the trackers know the run."""


class Trackers:
    """The trackers of one run.

    Args:
        names: Which.
        folder: The run folder.

    Raises:
        ConfigError: there is no folder to keep anything in.
    """

    def __init__(self, names: Sequence[str], folder: Path | None):
        if names and folder is None:
            raise ConfigError(f"tracking with {', '.join(names)} needs a run folder; give run_folder=...")
        self._names, self._folder = names, folder
        self._open: dict[str, Any] = {}

    def start(self, configuration: Mapping[str, Any], step: int) -> None:
        """Begin, or go on.

        Args:
            configuration: What the run was set up with, nested or not.
            step: The last one that is done; what an interrupted run logged after it counts no more.
        """
        if self._folder is None or not self._names:
            return
        note = self._folder / NOTE
        known: dict[str, str] = json.loads(note.read_text(encoding="utf-8")) if step and note.is_file() else {}
        run = {"id": known.get("id", uuid.uuid4().hex[:12])}
        plain = dict(_flat(configuration))
        for name in self._names:

            def begin(name: str = name) -> None:
                tracker = _make(name, self._folder or Path(), run["id"], known.get(name), step)
                tracker.start()
                self._open[name] = tracker
                if name == "mlflow":
                    run[name] = tracker.tracker.info.run_id
                if not known:
                    tracker.store_init_configuration(plain)

            self._careful(name, begin)
        note.write_text(json.dumps(run) + "\n", encoding="utf-8")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step or of an evaluation."""
        for name, tracker in list(self._open.items()):
            self._careful(name, lambda tracker=tracker: tracker.log(dict(values), step=step))  # type: ignore[misc]

    def finish(self) -> None:
        """Close them all."""
        for name, tracker in list(self._open.items()):
            self._careful(name, tracker.finish)
        self._open.clear()

    def _careful(self, name: str, act: Callable[[], None]) -> None:
        failure = None
        with putting_back(None):
            try:
                act()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit in a tracker must not end a run
                failure = one_line(error)
        if failure is not None:
            self._open.pop(name, None)
            warnings.warn(
                f"tracker '{name}' failed ({failure}); it is muted for this run", RuntimeWarning, stacklevel=3
            )


def _make(name: str, folder: Path, identifier: str, known: str | None, step: int) -> Any:
    """A tracker of accelerate's that does not need the network, unless an account or a server is set up."""
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
