"""What the tasks predict. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterhub_lite.errors import ConfigError


@dataclass(frozen=True)
class Prediction:
    """One predicted label."""

    label: str
    """The likeliest; empty where its probability is too small for the adapter to answer."""
    probability: float
    """Of the likeliest label, answered or not."""
    probabilities: dict[str, float] = field(hash=False)
    """By label, in the order of the labels; they add up to 1."""

    def columns(self) -> Mapping[str, Any]:
        """The label and its probability."""
        return {"prediction": self.label, "probability": round(self.probability, 6)}


@dataclass(frozen=True)
class LabelsPrediction:
    """Any number of predicted labels."""

    labels: tuple[str, ...]
    """Those with a probability of at least a half, or of their own thresholds, in the order of the labels."""
    probabilities: dict[str, float] = field(hash=False)
    """By label, each between 0 and 1 and independent of the others."""

    def columns(self) -> Mapping[str, Any]:
        """The labels and their probabilities, a list each."""
        return {
            "prediction": list(self.labels),
            "probability": [round(self.probabilities[label], 6) for label in self.labels],
        }


@dataclass(frozen=True)
class ValuePrediction:
    """A predicted number, in the units of the training data."""

    value: float

    def columns(self) -> Mapping[str, Any]:
        """The number."""
        return {"prediction": self.value}


@dataclass(frozen=True)
class ClassColumns:
    """Which columns with probabilities of classes are written beside each prediction."""

    top: int | None = 0
    """So many of the likeliest classes, as `top1`, `p_top1`, `top2`, ...; None for all classes, as `p_LABEL` each."""

    @classmethod
    def parse(cls, text: str) -> ClassColumns:
        """Read "none", "all" or "top:N".

        Raises:
            ConfigError: anything else.
        """
        if text in ("none", "all"):
            return cls(0 if text == "none" else None)
        kind, _, number = str(text).partition(":")
        if kind != "top" or not (number.isascii() and number.isdecimal()) or not 0 < int(number[:9]) < 10**6:
            raise ConfigError(f"probabilities {text!r:.60}: give none, all, or top:N with the N likeliest, as in top:3")
        return cls(int(number))
