"""From a checked run to the adapter that it makes: of a fresh one, or going on with a saved one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.parent import LINEAGE, Parent
from adapterhub_lite.adapter.restore import go_on
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.references import parse_scratch
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import DataError, NotSupportedError
from adapterhub_lite.evaluation.choices import check_choices
from adapterhub_lite.evaluation.result import Evaluation
from adapterhub_lite.plan.settle import settled_for_memory
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import Situation, StrategySpec
from adapterhub_lite.progress import Progress
from adapterhub_lite.scoring.rules import Choices
from adapterhub_lite.storage import DataRecord
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.make import recorded_task, settled_task
from adapterhub_lite.tasks.spec import TaskSpec
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.training.checks import CheckedRun
from adapterhub_lite.training.config import NOT_CHOSEN, OFF, TrainConfig
from adapterhub_lite.training.defaults import choose
from adapterhub_lite.training.evaluate import evaluating
from adapterhub_lite.training.fit import NOTES, fit
from adapterhub_lite.training.notes import note_of_size
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.place import Place

PROBES = 3
FORGETTING = "forgetting"
"""Where the manifest's `training` says what the base has forgotten."""


def train_adapter(
    base: Base,
    data: Dataset,
    held_out: Dataset | None,
    run: CheckedRun,
    place: Place,
    parent: Parent | None,
    *,
    strategies: Shelf[StrategySpec],
    tasks: Shelf[TaskSpec],
    plugins: Plugins,
    observers: Observers,
    progress: Progress,
    settled_on: Dataset | None = None,
) -> Adapter:
    """Train an adapter and score it on what is held out, if anything; where that fails the base is as it was.

    With a parent, a run that does not go on with it is refused, and new labels come behind its own. `settled_on` is the data
    that the task's scales and lengths are taken from, where that is more than the data to learn from.

    Raises:
        ConfigError, NotSupportedError, TrainingError: as `Engine.train`.
    """
    begin, record, forced = None, DataRecord(source=data.source, sha256=data.sha256, rows=len(data)), []
    if parent is None:
        task = settled_task(tasks, run.task, base, settled_on or data, run.task_options)
    else:
        data, held_out = parent.relabelled(data), None if held_out is None else parent.relabelled(held_out)
        parent.check(run, strategies, tasks, data)
        for difference in parent.check_base(base):
            progress.say(f"warning: {difference}")
        task = recorded_task(tasks, parent.task_record(data.labels))
        begin = partial(go_on, base, parent, recorded_task(tasks, parent.manifest.task), task, run)
        forced = parent.manifest.forced
    choices = Choices.of(
        abstain=run.config.abstain,
        label_thresholds=run.config.label_thresholds,
        calibrate=run.config.calibrate == "auto" and held_out is not None,
    )
    check_choices(choices, task)
    kept = len(held_out) if held_out is not None and run.picks_step else 0
    strategy = strategies.load(run.strategy)
    if not isinstance(strategy, Solver):  # which has no steps to settle
        run = _settled(run, base, task, data, kept, parent, strategies, progress)
    place, written = place.settled(run.config)
    attachment, facts = fit(
        base, task, data, held_out, run, place, strategy,
        strategy_shelf=strategies, observers=observers, progress=progress, begin=begin,
        settle=lambda run, encoded: settled_for_memory(base, task, run, encoded, progress.say),
    )  # fmt: skip
    lineage: dict[str, Any] = {} if parent is None else {LINEAGE: parent.lineage()}
    adapter = Adapter(
        attachment, plugins, progress, training={**facts, **lineage}, columns=dict(data.columns),
        files=dict(data.files), data=record, probe_inputs=list(data.inputs[:PROBES]), run_file=written,
        run_folder=place.folder, forced=list(forced),
    )  # fmt: skip
    if held_out is not None:
        adapter.scored = _scored(adapter, held_out, choices)
        adapter.metrics = adapter.scored.record()
        adapter.training[NOTES] = [*facts.get(NOTES, []), *note_of_size(adapter.metrics, task.metric)]
    elif choices != Choices():
        adapter.choose(abstain=run.config.abstain, label_thresholds=run.config.label_thresholds)
    forgotten = _forgotten(adapter, run.config)
    if forgotten:
        adapter.training[FORGETTING] = forgotten
    return adapter


def _scored(adapter: Adapter, held_out: Dataset, choices: Choices) -> Evaluation:
    """Score an adapter on held-out rows, after what can be chosen on them is; why something cannot be is said and recorded."""
    try:
        return adapter.evaluate(held_out, Processes(), choices)
    except DataError as error:
        if choices == Choices(calibrate=choices.calibrate):
            raise
        adapter.training[NOT_CHOSEN] = str(error)
        adapter.progress.say(f"warning: {error}; every row is answered")
        return adapter.evaluate(held_out, Processes(), replace(choices, abstain=None, label_thresholds=None))


def _settled(
    run: CheckedRun,
    base: Base,
    task: Task,
    data: Dataset,
    held_out: int,
    parent: Parent | None,
    strategies: Shelf[StrategySpec],
    progress: Progress,
) -> CheckedRun:
    """The run with the options that were not given, chosen from the data and said."""
    situation = situation_of(
        base, task, len(data), strategies, held_out, may_probe=parent is None and not run.config.shard
    )
    config, line = choose(run.config, situation, run.strategy.spec)
    if line is not None:
        progress.say(line)
    return replace(run, config=config)


def situation_of(
    base: Base, task: Task, rows: int, strategies: Shelf[StrategySpec], held_out: int = 0, *, may_probe: bool = True
) -> Situation:
    """What options are chosen by: the task, the base, so many rows to learn from, and so many to pick the best step by."""
    may_probe = may_probe and isinstance(task, HeadTask) and parse_scratch(base.reference) is None
    return Situation(
        task.name,
        task.modality,
        task.target_kind,
        rows=rows,
        classes=0 if task.generates else len(task.labels),
        held_out=held_out,
        has_probe=may_probe and any(strategies.able(Solver)),
        convolutional=base.map.pooling == "spatial",
    )


def _forgotten(adapter: Adapter, config: TrainConfig) -> dict[str, float]:
    """What the task measures of what the base could do before."""
    attachment, text = adapter.attachment, config.read_general_text()
    if config.general_text == OFF:
        return {}
    try:
        with evaluating(adapter.base.model):
            return attachment.task.forgetting(adapter.base, attachment.logits, attachment.teacher, text)
    except NotSupportedError as error:  # the adapter has tokens of its own for what is in the text
        adapter.progress.say(f"note: what was forgotten is not measured: {error}")
        return {}
