"""What the tasks predict. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """One predicted label."""

    label: str
    probability: float
    probabilities: dict[str, float]
    """By label, in the order of the labels; they add up to 1."""

    def columns(self) -> Mapping[str, Any]:
        """The label, its probability and those of all labels."""
        return {
            "prediction": self.label,
            "probability": round(self.probability, 6),
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
        }


@dataclass(frozen=True)
class LabelsPrediction:
    """Any number of predicted labels."""

    labels: tuple[str, ...]
    """Those with a probability of at least a half, in the order of the labels."""
    probabilities: dict[str, float]
    """By label, each between 0 and 1 and independent of the others."""

    def columns(self) -> Mapping[str, Any]:
        """The labels as a list, and the probabilities of all of them."""
        return {
            "prediction": list(self.labels),
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
        }


@dataclass(frozen=True)
class ValuePrediction:
    """A predicted number, in the units of the training data."""

    value: float

    def columns(self) -> Mapping[str, Any]:
        """The number."""
        return {"prediction": self.value}


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
        found: dict[str, Any] = {
            "prediction": list(self.tags),
            "probability": [None if p is None else round(p, 6) for p in self.probabilities],
        }
        if self.entities is not None:
            found["entities"] = [asdict(entity) for entity in self.entities]
        return found
