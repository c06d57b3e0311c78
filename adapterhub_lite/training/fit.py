"""From a checked run to a trained attachment: attach the strategy, encode the data, then solve or take steps."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import StrategySpec
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.task import Encoded, Task, encode, rows_of
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.checks import CheckedRun
from adapterhub_lite.training.loop import Training
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.randomness import seeded
from adapterhub_lite.training.run.place import Place, opened
from adapterhub_lite.training.sharded_base import shard_base
from adapterhub_lite.training.solve import solve_adapter, start_head


def fit(
    base: Base,
    task: Task,
    data: Dataset,
    held_out: Dataset | None,
    run: CheckedRun,
    place: Place,
    *,
    strategy_shelf: Shelf[StrategySpec],
    observers: Observers,
    progress: Progress,
) -> tuple[Attachment, dict[str, Any]]:
    """Attach the strategy of a run to a base and fit it to data; the base is as it was if that fails.

    Args:
        base: What is adapted.
        task: What it is adapted to, settled on this base and data.
        data: What is learnt from.
        held_out: What is scored on during the run, if anything.
        run: Strategy and options.
        place: Where the run is recorded, and who may stop it.
        strategy_shelf: The strategies; another one may give the head to start from.
        observers: Plug-ins that look on.
        progress: Shows the work, and what is worth knowing of the data.

    Returns:
        The trained attachment, and facts about the run to be saved with the adapter.

    Raises:
        ConfigError: a run to be resumed that is another one.
        NotSupportedError: strategy, task and base do not go together.
        TrainingError: the run cannot go on.
    """
    _say_notes(data, held_out, progress)
    strategy = strategy_shelf.load(run.strategy)
    with seeded(run.config.seed, base.device):
        attachment = attach(base, task, run.strategy, strategy, run.settings)
        try:
            encoded = encode(task, data, base, learn=True)
            for note in encoded.notes:
                progress.say(f"note: {note}")
            if run.config.shard:
                shard_base(attachment, Processes())
            scored: Encoded | None = None
            if held_out is not None:
                scored = encode(task, held_out, base)
                for note in scored.notes:
                    progress.say(f"note, held-out data: {note}")
            with opened(place, attachment, run.config, encoded, scored, progress) as folder:
                if isinstance(strategy, Solver):
                    return attachment, solve_adapter(attachment, strategy, encoded, run.config, observers, progress)
                if run.config.start_head == "probe":
                    start_head(attachment, strategy_shelf, encoded, run.config, progress)
                training = Training(
                    attachment, encoded, run.config, progress, observers,
                    held_out=scored, folder=folder, interrupt=place.interrupt,
                )  # fmt: skip
                return attachment, training.run().facts(run.config)
        except BaseException:
            attachment.detach()
            raise


def _say_notes(data: Dataset, held_out: Dataset | None, progress: Progress) -> None:
    """Say what reading the data left to be said, and warn of rows that are in both parts."""
    for note in data.notes:
        progress.say(f"note: {note}")
    if held_out is None:
        return
    for note in held_out.notes:
        if note not in data.notes:
            progress.say(f"note, held-out data: {note}")
    # Rows can be compared by their numbers where both are of one file; files are the same whose bytes are.
    same_file = bool(data.sha256) and data.sha256 == held_out.sha256
    shared = len(set(rows_of(data)) & set(rows_of(held_out))) if same_file else 0
    if shared:
        progress.say(
            f"warning: the evaluation data ({held_out.source}) has {counted(shared, 'row')} that the training data "
            "has as well; scores on them say nothing about new data"
        )
