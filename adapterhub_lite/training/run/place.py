"""Where a run is recorded and who may stop it, and opening the folder for the length of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapterhub_lite.interrupt import Interrupt
from adapterhub_lite.names import one_line
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.task import Encoded
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.folder import RunFolder
from adapterhub_lite.training.run.identity import environment, run_identity
from adapterhub_lite.training.run.layout import LOG, PICTURE


@dataclass(frozen=True)
class Place:
    """Where a run is recorded, and who may stop it."""

    folder: Path | None
    """The run folder; None to record nothing."""
    resume: bool
    """Go on with the run in the folder, if there is one."""
    run_file: str | Callable[[TrainConfig], str] | None
    """The run as YAML, to be kept in the folder, or what writes it with the options that were settled."""
    interrupt: Interrupt

    def settled(self, config: TrainConfig) -> tuple[Place, str | None]:
        """The same with the run written down, and what was written."""
        written = self.run_file(config) if callable(self.run_file) else self.run_file
        return replace(self, run_file=written), written


@contextmanager
def open_run_folder(
    place: Place,
    attachment: Attachment,
    config: TrainConfig,
    data: Encoded,
    held_out: Encoded | None,
    progress: Progress,
) -> Iterator[RunFolder | None]:
    """Open the run's folder, if there is to be one, for the length of a `with` block; then draw the loss curve in it."""
    processes = Processes()
    if place.folder is None:
        yield None
        return
    folder = RunFolder(
        place.folder,
        run_identity(attachment, config, data, held_out, processes.count),
        facts=environment(),
        run_file=place.settled(config)[1],
        resume=place.resume,
        say=progress.say,
        main=processes.is_main,
    )
    try:
        yield folder
        if processes.is_main:
            try:
                _draw_losses(folder.path, progress.say)
            except Exception as error:  # whatever is wrong with a picture, the adapter is there
                progress.say(f"warning: the loss curve could not be drawn ({one_line(error)})")
    finally:
        folder.close()


def _draw_losses(folder: Path, say: Callable[[str], None]) -> None:
    """Draw the log of a run folder: the loss of each step, and of each evaluation."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        say("note: no loss curve is drawn, because matplotlib is not installed; pip install 'adapterhub-lite[plots]'")
        return
    lines = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
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
