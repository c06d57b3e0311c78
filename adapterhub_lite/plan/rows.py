"""Rows to count a step on: those of the user, or made-up ones of a length."""

from __future__ import annotations

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.plugins.manager import Plugins

MOST_ROWS = 20_000
"""Of the user's, that are read for their lengths."""


def made_up_rows(plugins: Plugins, task: str, base: Base) -> Dataset:
    """A few rows for a task, as its plug-in brings them for its tests.

    Raises:
        NotSupportedError: the plug-in brings none for such a base.
    """
    for _, model in plugins.gathered("adapterhub_tiny_models", object):
        rows: Dataset = model.problem()  # type: ignore[attr-defined]
        if rows.task == task:
            return rows
    raise NotSupportedError(f"task '{task}' brings no rows to count with; give some with --data")


def first_rows(data: Dataset) -> Dataset:
    """Rows enough to know how long they are.

    Raises:
        ConfigError: there are none.
    """
    if len(data) == 0:
        raise ConfigError(f"{data.source}: there are no rows to plan for")
    return data if len(data) <= MOST_ROWS else data.select(range(MOST_ROWS))
