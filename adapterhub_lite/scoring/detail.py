"""What every kind of detailed scores offers: a JSON object, and tables for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Cell = str | int | float | None
"""None is shown as nothing."""


@dataclass(frozen=True)
class Section:
    """A table for a person: a title, the names of the columns, and rows of texts and numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Detail(Protocol):
    """Scores in detail, beside the few that are saved with an adapter."""

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""

    def sections(self) -> Sequence[Section]:
        """What of it a person is shown."""
