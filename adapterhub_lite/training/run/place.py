"""Where a run is recorded and who may stop it, and opening its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapterhub_lite.names import one_line
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.task import Encoded
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.interrupt import Interrupt
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.folder import RunFolder
from adapterhub_lite.training.run.identity import environment, run_identity
from adapterhub_lite.training.run.loss_curve import draw_losses


@dataclass(frozen=True)
class Place:
    """See the module's docstring."""

    folder: Path | None
    resume: bool
    run_file: str | None
    interrupt: Interrupt


@contextmanager
def opened(
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
        run_file=place.run_file,
        resume=place.resume,
        say=progress.say,
        main=processes.is_main,
    )
    try:
        yield folder
        if processes.is_main:
            try:
                draw_losses(folder.path, progress.say)
            except Exception as error:  # whatever is wrong with a picture, the adapter is there
                progress.say(f"warning: the loss curve could not be drawn ({one_line(error)})")
    finally:
        folder.close()
