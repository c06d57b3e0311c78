"""What a check is, and what it reports. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

KIT_VERSION = "2.0"
"""Version of the kit: the first number changes when a strategy that passed may fail, the second for all else."""

Status = Literal["passed", "failed", "expected_failure", "unexpected_pass", "skipped"]
BAD: frozenset[Status] = frozenset({"failed", "unexpected_pass"})


class CheckFailed(AssertionError):
    """What a check raises; the message says what the strategy did and what was expected."""


class CheckSkipped(Exception):
    """What a check raises when it turns out, while it runs, that it does not apply."""


def demand(condition: bool, message: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckFailed: with the message.
    """
    if not condition:
        raise CheckFailed(message)


def always(bench: Any) -> str | None:
    """Always."""
    return None


@dataclass(frozen=True)
class Check:
    """A plain function with what the kit needs to know about it."""

    function: Callable[[Any], None]
    when: Callable[[Any], str | None] = always
    """Says why the check does not apply, or None where it does."""
    on: Literal["strategy", "adapted model", "any model"] = "adapted model"
    """What it is run for: once for the strategy, on each model that the strategy adapts, or on each model at all.

    Checks of tasks and observers are run once, or on each model whose problem is of the task.
    """
    tells_of: tuple[str, ...] = ()
    """Methods of a strategy: where the engine stops what one of them does, this check says so, and the others skip."""

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


@dataclass(frozen=True)
class CheckResult:
    """One check on one model."""

    name: str
    model: str | None
    """Name of the tiny model; None for a check that looks at the strategy alone."""
    status: Status
    message: str
    """Why it failed or was skipped, or the reason given for an expected failure; "" where it passed."""
    seconds: float

    @property
    def id(self) -> str:
        """`name[model]`, as in a list of expected failures."""
        return check_id(self.name, self.model)

    @property
    def ok(self) -> bool:
        """Nothing to do here: passed, skipped, or failed as expected."""
        return self.status not in BAD


def check_id(name: str, model: str | None) -> str:
    """How a check on a model is written."""
    return name if model is None else f"{name}[{model}]"
