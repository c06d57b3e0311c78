"""What came of a comparison: a row a contender, the winner, and what is to be said about it. No torch here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from adapterhub_lite.comparison.shown import printed
from adapterhub_lite.errors import ConfigError

if TYPE_CHECKING:
    from adapterhub_lite.adapter.adapter import Adapter

Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One contender."""

    name: str
    strategy: str | None
    """None for a baseline."""
    settings: dict[str, Any]
    """Of the strategy, as far as they are not the default ones."""
    options: dict[str, Any]
    """Of training, as far as they were given or tried."""
    choosing_score: float | None = None
    """On the rows that contenders are chosen by; of one that is left out early, with a share of its steps."""
    tied: bool = False
    """On those rows chance could have put it behind the best one."""
    score: float | None = None
    """On rows that nothing was chosen by."""
    interval: Interval | None = None
    """Of 95 %."""
    difference: float | None = None
    """Its score minus the winner's."""
    difference_interval: Interval | None = None
    """Paired, of 95 %: rows, or groups, are drawn again for both alike."""
    apart: bool = False
    """The difference is not chance."""
    seconds: float | None = None
    """Of one run on all rows to learn from."""
    trained: int | None = None
    """Weights."""
    size: int | None = None
    """Bytes."""
    out: str | None = None
    """Why it did not go on, or take part."""
    failed: bool = False
    known: bool = False
    """Nothing of it was run now: it was in the cache."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Several models on the same rows; printed it is a table."""

    task: str
    metric: str
    higher_is_better: bool
    rows: list[Row]
    winner: str
    """Name of the cheapest contender that nothing is clearly better than."""
    best_adapter: str
    """The same among those with an adapter: what is saved."""
    learnt_from: int
    chosen_on: str
    """Which rows they were chosen by, in words."""
    held_out: int
    """Rows that the scores are on; 0 where there are none."""
    notes: list[str]
    steps: int
    """Optimizer steps that were taken, in all runs."""
    steps_of_all: int
    """Those that trying every setting with all its steps would have taken."""
    adapter: Adapter | None = field(default=None, compare=False)
    """The best adapter, on its base."""

    def __getitem__(self, name: str) -> Row:
        """The row of a contender, by its name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def record(self) -> dict[str, Any]:
        """All of it as JSON, without the adapter."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("adapter", "rows")}
        told: dict[str, Any] = json.loads(json.dumps({**facts, "contenders": [asdict(row) for row in self.rows]}))
        return told

    def to_pandas(self) -> Any:
        """A data frame with a row a contender.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("to_pandas needs pandas; pip install pandas") from None
        return pandas.DataFrame([asdict(row) for row in self.rows]).set_index("name")

    def __str__(self) -> str:
        return printed(self)

    __repr__ = __str__
