"""What the kit reports. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KIT_VERSION = "1.0"
"""Version of the kit: the first number changes when a strategy that passed may fail, the second for all else."""

Status = Literal["passed", "failed", "expected_failure", "unexpected_pass", "skipped"]
BAD: frozenset[Status] = frozenset({"failed", "unexpected_pass"})


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
