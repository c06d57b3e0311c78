"""From a checked run to a trained attachment: attach the strategy, encode the data, then solve or take steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.shards import shard
from adapterhub_lite.base.strategy import PeftCompatible, Solver, Strategy
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import StrategySpec
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Encoded, Task, encode, rows_of
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.checks import CheckedRun
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.evaluate import predict_logits
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.loop import Training
from adapterhub_lite.training.notes import note_of_classes, note_of_probe, notes_of_losses
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.randomness import seeded
from adapterhub_lite.training.reach import reach_of
from adapterhub_lite.training.run.place import Place, open_run_folder
from adapterhub_lite.training.solve import solve_adapter, start_head

NOTES = "notes"
"""Where the facts of a run have what a person should know of it."""
MOST_RUN_AGAIN = 2000
"""Held-out examples; a note is not worth running more of them once more."""


def fit(
    base: Base,
    task: Task,
    data: Dataset,
    held_out: Dataset | None,
    run: CheckedRun,
    place: Place,
    strategy: Strategy,
    *,
    strategy_shelf: Shelf[StrategySpec],
    observers: Observers,
    progress: Progress,
    begin: Callable[[Strategy], Attachment] | None = None,
    settle: Callable[[CheckedRun, Encoded], TrainConfig] | None = None,
) -> tuple[Attachment, dict[str, Any]]:
    """Attach the strategy of a run to a base and fit it to data; where that fails the base is as it was.

    The task is settled on this base and data. `strategy_shelf` is asked for a probe, where the head starts from one.
    `begin` attaches what training goes on with, instead of a fresh adapter; `settle` has the last word on the options, by the
    examples.

    Returns:
        The trained attachment, and facts about the run to be saved with the adapter.

    Raises:
        ConfigError: a run to be resumed that is another one.
        NotSupportedError: strategy, task and base do not go together.
        TrainingError: the run cannot go on.
    """
    say_notes(data, held_out, progress)
    if (
        begin is None
        and isinstance(task, HeadTask)
        and (run.strategy.spec.traits.mergeable or isinstance(strategy, PeftCompatible))
    ):
        base.activate(None)  # the layers of another adapter would hide what class the base is
        task.follow_class(base)  # other libraries will open what is made of this adapter
    with seeded(run.config.seed, base.device):
        if begin is not None:
            attachment = begin(strategy)
        else:
            attachment = attach(base, task, run.strategy, strategy, run.settings, observers.watch)
        try:
            reach = reach_of(attachment)
            if reach is not None:
                progress.say(f"{run.strategy.spec.name} {reach}")
            encoded = encode(task, data, base, learn=True)
            for note in encoded.notes:
                progress.say(f"note: {note}")
            if settle is not None:
                run = replace(run, config=settle(run, encoded))
            if run.config.shard:
                _shard_base(attachment, Processes().device)
            scored: Encoded | None = None
            if held_out is not None:
                scored = encode(task, held_out, base)
                for note in scored.notes:
                    progress.say(f"note, held-out data: {note}")
            with open_run_folder(place, attachment, run.config, encoded, scored, progress) as folder:
                if isinstance(strategy, Solver):
                    return attachment, solve_adapter(attachment, strategy, encoded, run.config, observers, progress)
                probe: nn.Module | None = None
                if run.config.start_head == "probe":
                    compared = scored is not None and _notes_go_with(task, scored)
                    probe = start_head(attachment, strategy_shelf, encoded, run.config, progress, compared=compared)
                training = Training(
                    attachment, encoded, run.config, progress, observers,
                    held_out=scored, folder=folder, interrupt=place.interrupt,
                )  # fmt: skip
                report = training.run()
                facts = {} if reach is None else {"reach": reach}
                notes = notes_of_losses(report, run.config)
                if scored is not None:
                    notes += _notes_of_rows(attachment, scored, probe, progress)
                return attachment, {**report.facts(run.config), **facts, NOTES: notes}
        except BaseException:
            attachment.discard()
            raise


def say_notes(data: Dataset, held_out: Dataset | None, progress: Progress) -> None:
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


def _notes_go_with(task: Task, held_out: Encoded) -> bool:
    """Whether notes are made on what is predicted of held-out rows: of one target each, and few enough to be run again."""
    of_one_target = isinstance(task, HeadTask) and task.target_kind != "labels"
    few = len(held_out.examples) <= MOST_RUN_AGAIN and Processes().count == 1
    return of_one_target and few and all(example.rows == 1 for example in held_out.examples)


def _notes_of_rows(attachment: Attachment, held_out: Encoded, probe: nn.Module | None, progress: Progress) -> list[str]:
    """Notes on what is predicted of held-out rows that are few enough to be run once more; beside the probe, if there is one."""
    task, base, examples = attachment.task, attachment.base, held_out.examples
    if not isinstance(task, HeadTask) or not _notes_go_with(task, held_out):
        return []
    own, targets = predict_logits(attachment, held_out, progress), task.targets(examples)
    notes = note_of_classes(own, targets, task.labels) if task.target_kind == "classes" else []
    if probe is not None:
        features, _ = encode_features(base, task, held_out, progress)
        base.activate(attachment.view)
        with torch.no_grad():
            notes += note_of_probe(own, probe(features), targets, held_out.groups)
    return notes


def _shard_base(attachment: Attachment, device: torch.device) -> None:
    """Spread the base's weights over the processes, for good; what trains stays whole on each.

    From here on everything that runs the base has to be done by all processes alike.
    """
    base, spec = attachment.base, attachment.provided.spec
    if base.shards is not None:
        return
    if attachment.traits.trains_base or attachment.view.rewrites_base:
        raise NotSupportedError(
            f"--shard does not go with strategy '{spec.name}' as it is set up, which changes weights of the base "
            "itself and keeps the old ones beside them; use a strategy that leaves them alone, such as lora"
        )
    base.activate(attachment.view)
    base.shards = shard(base.model, base.map, attachment.tensors.values(), device)
    base.device = device
    for parameter in attachment.tensors.values():
        parameter.data = parameter.data.to(device)
    attachment.unchanged.begin(attachment.view)  # the hooks that gather weights are ours
