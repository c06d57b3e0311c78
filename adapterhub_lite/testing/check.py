"""What a check is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from adapterhub_lite.testing.bench import Bench


class CheckFailed(AssertionError):
    """What a check raises; the message says what the strategy did and what was expected."""


class CheckSkipped(Exception):
    """What a check raises when it finds only on the way that it cannot say anything."""


def demand(condition: bool, message: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckFailed: with the message.
    """
    if not condition:
        raise CheckFailed(message)


def always(bench: Bench) -> str | None:
    """Always."""
    return None


@dataclass(frozen=True)
class Check:
    """A plain function with what the kit needs to know about it."""

    function: Callable[[Bench], None]
    when: Callable[[Bench], str | None] = always
    """Says why the check does not apply, or None where it does."""
    on: Literal["strategy", "adapted model", "any model"] = "adapted model"
    """What it is run for: once for the strategy, on each model that the strategy adapts, or on each model at all."""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def condition(self) -> str:
        """When it applies: the first line of the predicate's docstring."""
        return (self.when.__doc__ or "").strip().partition("\n")[0]

    @property
    def demand(self) -> str:
        """What it demands: the first line of its docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]
