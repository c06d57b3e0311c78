"""Two texts that belong together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Two texts of one row: a question and an answer, a premise and a hypothesis."""

    first: str
    second: str
