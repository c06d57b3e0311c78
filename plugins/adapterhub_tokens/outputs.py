"""What is predicted for the words of a text. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Entity:
    """A run of words that belong together."""

    kind: str
    start: int
    """Its first word, counted from 0."""
    end: int
    """The word after its last."""
    text: str
    """Its words with blanks between."""


@dataclass(frozen=True)
class TagsPrediction:
    """A tag for each word."""

    tags: tuple[str | None, ...]
    """None for a word beyond the longest input, or of which the tokenizer makes nothing."""
    probabilities: tuple[float | None, ...]
    """Of the tags."""
    entities: tuple[Entity, ...] | None
    """The spans that the tags mark; None where tags mark none."""

    def columns(self) -> Mapping[str, Any]:
        """The tags, their probabilities and the entities, each as a list."""
        columns: dict[str, Any] = {
            "prediction": list(self.tags),
            "probability": [None if p is None else round(p, 6) for p in self.probabilities],
        }
        if self.entities is not None:
            columns["entities"] = [asdict(entity) for entity in self.entities]
        return columns
