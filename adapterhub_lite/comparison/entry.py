"""A contender in a contest."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterhub_lite.comparison.contenders import Contender
from adapterhub_lite.comparison.judge import Difference
from adapterhub_lite.comparison.kept import Result


@dataclass
class Entry:
    """A contender, and how it has fared so far."""

    contender: Contender
    first: Result | None = None
    """With a share of its steps."""
    chosen_by: list[Result] = field(default_factory=list)
    """With all its steps, on the rows that it is chosen by: one a turn."""
    last: Result | None = None
    """Fitted to all rows, and scored on those that nothing was chosen by."""
    choosing: Difference | None = None
    """Its score on the rows it is chosen by, and how that differs from the best one there."""
    choosing_score: float | None = None
    out: str | None = None
    """Why it does not go on: failed, or clearly worse."""
    failed: bool = False

    @property
    def name(self) -> str:
        """Of the contender."""
        return self.contender.name

    @property
    def results(self) -> list[Result]:
        """Everything that was fitted for it."""
        return [result for result in (self.first, *self.chosen_by, self.last) if result is not None]

    @property
    def price(self) -> tuple[bool, int, float]:
        """What tells the cheaper of two: no base, fewer weights, less time."""
        newest = self.results[-1]
        return self.contender.run is not None, newest.trained, newest.seconds
