"""The checks, as plain functions; `all_checks` generates them in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator

from adapterhub_lite.testing.check import Check
from adapterhub_lite.testing.checks import base, contract, description, files, learning, outputs, surroundings


def all_checks() -> Iterator[Check]:
    """Every check of the kit. The one on patches is first, because it looks for what the first use of a strategy does."""
    for module in (surroundings, description, contract, base, learning, files, outputs):
        yield from module.CHECKS
