"""From a task's name to the task: settled on a base before training, or as a saved adapter records it."""

from __future__ import annotations

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterCorruptError, ConfigError, NotSupportedError
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import OURS, Modality, Provided
from adapterhub_lite.storage import TaskRecord
from adapterhub_lite.tasks.spec import TaskOptions, TaskSpec
from adapterhub_lite.tasks.task import Preprocessing, Task


def settled_task(
    shelf: Shelf[TaskSpec], provided: Provided[TaskSpec], base: Base, data: Dataset, options: TaskOptions
) -> Task:
    """The task of a dataset on a base, its preprocessing settled.

    Raises:
        ConfigError, NotSupportedError: options or data that this base cannot follow.
    """
    check_modality(data.task, provided.spec.modality, base)
    kind = shelf.load(provided)
    task: Task = kind(data.labels, kind.settle(base, data, options))
    task.name = provided.recorded
    return task


def recorded_task(shelf: Shelf[TaskSpec], record: TaskRecord) -> Task:
    """The task of a saved adapter.

    Raises:
        ConfigError: a task that is not installed.
        AdapterCorruptError: a record that was never written.
    """
    provided = shelf.resolve(record.name)
    # What other distributions' tasks have, they alone know.
    if provided.dist == OURS and provided.spec.labelled != bool(record.labels):
        raise AdapterCorruptError(f"adapterhub.json: task: {len(record.labels)} labels for task {record.name!r}")
    preprocessing = Preprocessing.from_record(record.preprocessing)
    if preprocessing.form not in provided.spec.forms:
        raise AdapterCorruptError(f"adapterhub.json: task.preprocessing: there is no form {preprocessing.form!r}")
    try:
        shelf.configure(provided, preprocessing.options)
    except ConfigError as error:
        raise AdapterCorruptError(f"adapterhub.json: task.preprocessing: {error}") from error
    task: Task = shelf.load(provided)(record.labels, preprocessing)
    task.name, task.decision = provided.recorded, record.decision
    return task


def check_modality(task: str, needed: Modality, base: Base) -> None:
    """Refuse a base that does not take what a task is about.

    Args:
        task: Name of the task.
        needed: What the task is about.
        base: What it is to run on.

    Raises:
        NotSupportedError: naming both.
    """
    if base.map.modality != needed:
        raise NotSupportedError(
            f"task '{task}' needs a base for {_plural(needed)}; '{base.reference}' takes {_plural(base.map.modality)}"
        )


def _plural(modality: Modality) -> str:
    return modality if modality == "series" else f"{modality}s"
