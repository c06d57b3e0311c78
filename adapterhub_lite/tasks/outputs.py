"""What the tasks predict. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """One predicted label."""

    label: str
    probability: float
    probabilities: dict[str, float] = field(hash=False)
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
    probabilities: dict[str, float] = field(hash=False)
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
