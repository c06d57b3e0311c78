"""What came of a comparison: a row a contender, the winner, and what is to be said about it. No torch here."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import human_size

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

    def table(self) -> Table:
        """The rows as a table for a terminal of 80 columns, the best first; intervals are of 95 %."""
        scored = [f"held-out {self.metric}", "to the winner"] if self.held_out else []
        table = Table(
            "contender", "chose", *scored, "cost", "", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
        for row in self.rows:
            cells = [row.name.replace(", ", ",\n "), _number(row.choosing_score)]
            if self.held_out:
                cells += [_with_ends(row.score, row.interval)]
                cells += ["" if row.name == self.winner else _with_ends(row.difference, row.difference_interval, "+")]
            cells += [_cost(row), self._remark(row)]
            table.add_row(*cells, style="bold" if row.name == self.winner else "")
        return table

    def __str__(self) -> str:
        return _printed(self.table(), [self.summary(), *self.notes])

    __repr__ = __str__

    def summary(self) -> str:
        """How they were compared, in a sentence."""
        on = f"{self.held_out} held-out rows" if self.held_out else "no held-out rows"
        return (
            f"learnt from {self.learnt_from} rows, chosen {self.chosen_on}, scored on {on}; {self.steps:,} training steps, "
            f"where every setting in full would take {self.steps_of_all:,}"
        )

    def _remark(self, row: Row) -> str:
        if row.out is not None:
            return "failed" if row.failed else "left out"
        remarks = {"winner": row.name == self.winner, "tie": row.tied, "saved": row.name == self.best_adapter}
        return "\n".join(name for name, holds in remarks.items() if holds)


def notes_on(comparison: Comparison) -> list[str]:
    """What a reader of the table should know: ties, a baseline that is as good, failures, and what the scores are worth."""
    c, notes = comparison, []
    winner, best = c[c.winner], c[c.best_adapter]
    tied = [row.name for row in c.rows if row.tied and row.name != c.winner]
    if tied:
        notes.append(
            f"tie: {c.winner} and {_listed(tied)} cannot be told apart by the rows that chose; of these {c.winner} is cheapest"
        )
    if winner.strategy is None:
        scored = ""
        if c.held_out:
            difference = _with_ends(best.difference, best.difference_interval, "+", ", ")
            scored = f": {difference} on the held-out rows"
        notes.append(
            f"{c.winner.upper()} IS AS GOOD: the base adds nothing on this data that could not be chance. Saved is the best "
            f"adapter, {best.name}{scored}"
        )
    better = [
        row.name
        for row in c.rows
        if row.apart and row.difference is not None and (row.difference > 0) == c.higher_is_better
    ]
    if better:
        notes.append(
            f"on the held-out rows {_listed(better)} did better than the winner; to choose by that would make these scores "
            "optimistic: decide on new rows"
        )
    notes += [f"{row.name} {row.out}" for row in c.rows if row.failed]
    notes += [
        f"{row.name} is left out: {row.out}"
        for row in c.rows
        if row.out and row.choosing_score is None and not row.failed
    ]
    return notes


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}" if abs(value) < 100 else f"{value:{sign}.4g}"


def _with_ends(value: float | None, ends: Interval | None, sign: str = "", between: str = "\n") -> str:
    """A score or a difference, and its interval behind it."""
    shown = [_number(value, sign)]
    if ends is not None:
        shown.append(f"{_number(ends[0], sign)} to {_number(ends[1], sign)}")
    return between.join(shown)


def _cost(row: Row) -> str:
    if row.trained is None or row.seconds is None:
        return ""
    weights = f"{row.trained:,}" if row.trained < 10**6 else f"{row.trained / 10**6:.1f} M"
    return f"{row.seconds:.1f} s, {human_size(row.size or 0)}\n{weights} weights"


def _printed(table: Table, lines: Sequence[str]) -> str:
    file = io.StringIO()
    console = Console(file=file, width=100, markup=False, emoji=False)
    console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True)
    return file.getvalue()
