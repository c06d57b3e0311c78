"""What the verbs that use a saved adapter begin with: its data is checked before its base is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adapterhub_lite.cli.columns import say_columns
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.storage.bundle import manifest_of

if TYPE_CHECKING:
    from adapterhub_lite.engine import Engine


def checked_data(adapter: str, source: str, columns: Mapping[str, str], *, require_labels: bool) -> Dataset:
    """Read data by the adapter's task, labels and, where none are named and the data has them, columns.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter.
        DataError: bad data, naming file, row and column.
    """
    from adapterhub_lite.adapter.read import read_for
    from adapterhub_lite.plugins.manager import Plugins

    task = manifest_of(Path(adapter)).task
    dataset = read_for(task, source, plugins=Plugins(), columns=columns, require_labels=require_labels)
    say_columns(dataset.columns, source)
    return dataset


def open_engine() -> Engine:
    """The engine with the installed plug-ins."""
    from adapterhub_lite.engine import Engine

    return Engine()


def require_language_model(adapter: str) -> None:
    """Refuse an adapter that classifies, before its base is loaded.

    Raises:
        NotSupportedError: saying what to use instead.
    """
    task = manifest_of(Path(adapter)).task
    if task.name != "causal-lm":
        raise NotSupportedError(f"{adapter} is an adapter for {task.name}; use `adapterhub-lite predict` with it")
