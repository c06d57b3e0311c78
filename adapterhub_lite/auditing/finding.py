"""What an audit says: how many rows, which, how bad, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["alarm", "note", "fine", "unknown"]
"""Something to mend before training; something to know; looked for and not there; could not be looked for."""
DATA, HELD_OUT = "data", "eval-data"
"""The two sides of an audit: rows to learn from, and rows to score on."""


@dataclass(frozen=True)
class Row:
    """One row that a finding names."""

    side: str
    place: int
    """Position in the data set of its side, from 0."""
    why: str = ""
    partner: tuple[str, int] | None = None
    """Side and position of the row that it is compared with."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    name: str
    level: Level
    says: str
    """How many, of how many, in a sentence."""
    advice: str = ""
    rows: Sequence[Row] = ()
    count: int = 0
    points: float | None = None
    """What it costs, or adds without merit, in points of the metric (hundredths); None where that cannot be estimated."""
    drops: bool = False
    """Its rows of the data are those that a repaired file leaves out."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Numbers behind the sentence, as JSON."""

    def record(self) -> dict[str, Any]:
        """All of it as JSON, but the rows."""
        facts = {name: getattr(self, name) for name in ("name", "level", "says", "advice", "count", "points")}
        return {**facts, "rows": len(self.rows), "facts": dict(self.facts)}


def unknown(name: str, why: str) -> Finding:
    """Something that could not be looked for."""
    return Finding(name, "unknown", why)


def fine(name: str, says: str, **facts: Any) -> Finding:
    """Something that was looked for and is not there."""
    return Finding(name, "fine", says, facts=facts)
