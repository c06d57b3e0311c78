"""The checks, as plain functions; `all_checks` generates them in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator

from adapterhub_lite.testing.check import Check
from adapterhub_lite.testing.checks import (
    again,
    base,
    contract,
    description,
    files,
    learning,
    observer,
    options,
    outputs,
    protocols,
    surroundings,
    task,
)


def all_checks() -> Iterator[Check]:
    """Every check of a strategy. The one on patches is first, because it looks for what the first use of a strategy does."""
    for module in (surroundings, description, contract, options, base, protocols, learning, again, files, outputs):
        yield from module.CHECKS


def task_checks() -> Iterator[Check]:
    """The checks of a task."""
    yield from (*description.CHECKS, *task.CHECKS)


def observer_checks() -> Iterator[Check]:
    """The checks of a plug-in that observes."""
    yield from observer.CHECKS
