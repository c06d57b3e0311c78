"""A saved adapter that training goes on with: on its base, with its strategy and options, on new data. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.request import SEVERAL
from adapterhub_lite.errors import BaseMismatchError, ConfigError, DataError
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import StrategySpec
from adapterhub_lite.scoring.decision import PLAIN
from adapterhub_lite.storage import Manifest, StoredAdapter, TaskRecord, check_base
from adapterhub_lite.storage.bundle import open_any
from adapterhub_lite.storage.manifest import encode_manifest
from adapterhub_lite.tasks.spec import TaskSpec
from adapterhub_lite.training.checks import CheckedRun

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base

LINEAGE = "went_on_from"
"""Where the manifest's `training` lists the adapters that were gone on with, the oldest first."""


@dataclass(frozen=True)
class Asked:
    """What is asked for a run by name."""

    task: str
    strategy: str | None
    settings: Mapping[str, Any]
    task_options: Mapping[str, Any]


@dataclass(frozen=True)
class Parent:
    """A saved adapter that training goes on with."""

    path: Path
    stored: StoredAdapter
    payload: bytes

    @classmethod
    def open(cls, path: Any) -> Parent:
        """Read and check one.

        Raises:
            ConfigError: no path.
            AdapterNotFoundError, AdapterCorruptError: nothing there, or not what was saved.
        """
        if not isinstance(path, (str, Path)):
            raise ConfigError(f"from_adapter is a {type(path).__name__}; give the directory of a saved adapter")
        return cls(Path(path), *open_any(Path(path)))

    @property
    def manifest(self) -> Manifest:
        """What is recorded of it."""
        return self.stored.manifest

    @property
    def digest(self) -> str:
        """SHA-256 of its manifest, and so of everything in it; `adapterhub-lite history` shows the first 12 digits."""
        return hashlib.sha256(encode_manifest(self.manifest)).hexdigest()

    @property
    def task_options(self) -> dict[str, Any]:
        """The options of its task that were given."""
        options = self.manifest.task.preprocessing.get("options", {})
        return dict(options) if isinstance(options, dict) else {}

    def lineage(self) -> list[dict[str, Any]]:
        """It and those before it, the oldest first, as the manifest of what is made of it lists them."""
        manifest = self.manifest
        before: Any = manifest.training.get(LINEAGE, [])
        own = {
            "manifest_sha256": self.digest,
            "created": manifest.created,
            "data": manifest.data.model_dump(mode="json") if manifest.data is not None else None,
            "steps": manifest.training.get("steps"),
            "labels": len(manifest.task.labels),
        }
        return [*(before if isinstance(before, list) else []), own]

    def labels(self, new: Sequence[str]) -> tuple[str, ...]:
        """Its labels in their order, and behind them those of new data that it does not know."""
        return tuple(dict.fromkeys((*self.manifest.task.labels, *new)))

    def task_record(self, new: Sequence[str]) -> TaskRecord:
        """Its task, with the labels of new data as well; what was chosen for its own outputs is not for those to come."""
        return self.manifest.task.model_copy(update={"labels": list(self.labels(new)), "decision": PLAIN})

    def relabelled(self, data: Dataset) -> Dataset:
        """New data with its labels, and those that are new behind them."""
        labels = self.labels(data.labels)
        places = {number: labels.index(name) for number, name in enumerate(data.labels)}
        if data.targets is None or all(number == place for number, place in places.items()):
            return replace(data, labels=labels)
        return replace(data, labels=labels, targets=tuple(_moved(target, places) for target in data.targets))

    def read(self, reader: Callable[[Sequence[str] | None], Dataset]) -> Dataset:
        """Read new data, which may be of one class that it knows.

        Args:
            reader: Reads the data with the labels that it is given, or with all that occur.

        Raises:
            DataError: bad data; names file, row and column.
        """
        try:
            return reader(None)
        except DataError:
            with suppress(DataError):
                return reader(self.manifest.task.labels or None)
            raise

    def completed(self, asked: Asked) -> Asked:
        """What is asked for, and its own strategy and options where nothing is.

        Raises:
            ConfigError: another task or strategy.
        """
        own, task = self.manifest.strategy, self.manifest.task.name
        for what, name, given in (("task", task, asked.task), ("strategy", own.name, asked.strategy or own.name)):
            if given.rpartition(":")[2] != name.rpartition(":")[2]:  # one of them may be with its distribution
                self._same(what, name, given)
        return Asked(
            asked.task,
            asked.strategy or own.name,
            {**own.config, **asked.settings},
            {**self.task_options, **asked.task_options},
        )

    def check(self, run: CheckedRun, strategies: Shelf[StrategySpec], tasks: Shelf[TaskSpec], data: Dataset) -> None:
        """Refuse a run that does not go on with it.

        Raises:
            ConfigError: another kind of data, or other options; names what differs.
        """
        manifest = self.manifest
        form = manifest.task.preprocessing.get("form")
        if SEVERAL in (form, data.form) or None not in (form, data.form):
            self._same("kind of data", form or "one label a row", data.form or "one label a row")
        own = strategies.configure(run.strategy, manifest.strategy.config)
        own_task = tasks.configure(run.task, self.task_options)
        for options, asked in ((own, run.settings), (own_task, run.task_options)):
            for name in type(options).model_fields:
                self._same(f"option {name}", getattr(options, name), getattr(asked, name))
        if run.config.start_head not in (None, "random"):
            raise ConfigError(f"--start-head {run.config.start_head}: the head starts as it is in {self.path}")

    def _same(self, what: str, own: Any, asked: Any) -> None:
        if own != asked:
            raise ConfigError(
                f"{self.path} cannot be gone on with: its {what} is {own}, and {asked} is asked for; leave that out, or "
                "begin a new adapter"
            )

    def check_base(self, base: Base) -> list[str]:
        """How a base differs from its own in what does not matter.

        Raises:
            ConfigError: another base; names what differs.
        """
        try:
            return check_base(self.manifest.base, base.fingerprint, base.quantization, base.reference)
        except BaseMismatchError as error:
            raise ConfigError(f"{self.path} cannot be gone on with: {error}") from error


def _moved(target: Any, places: Mapping[int, int]) -> Any:
    """A target with its classes numbered anew: one class, or those of labels or of words, -1 and the like as they are."""
    if isinstance(target, (tuple, list)):
        return type(target)(_moved(part, places) for part in target)
    return places.get(target, target)
