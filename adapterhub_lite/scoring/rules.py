"""What a user asks to be chosen: thresholds by rules such as `coverage=0.9`, and a temperature. No numpy here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import did_you_mean

Kind = Literal["coverage", "precision", "threshold", "f1", "off"]
ABSTAIN = ("coverage", "precision", "threshold", "off")
"""Of inputs with one label each."""
LABELS = ("f1", "precision", "off")
"""Of inputs with any number of labels."""


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen."""

    kind: Kind
    value: float = 0.0

    @property
    def needs_rows(self) -> bool:
        """Whether labelled rows are needed to choose by it."""
        return self.kind not in ("threshold", "off")

    def __str__(self) -> str:
        return self.kind if self.kind in ("f1", "off") else f"{self.kind}={self.value:g}"

    @classmethod
    def parse(cls, text: str, option: str, kinds: tuple[str, ...]) -> Rule:
        """Read one.

        Args:
            text: As the user wrote it.
            option: Its name, for the error.
            kinds: Those that may be asked for here.

        Raises:
            ConfigError: another kind, no number, or one that is not between 0 and 1.
        """
        kind, equals, value = (part.strip() for part in str(text).partition("="))
        known = next((name for name in get_args(Kind) if name == kind), None)
        forms = ", ".join(name if name in ("f1", "off") else f"{name}=0.9" for name in kinds)
        if known is None or kind not in kinds:
            raise ConfigError(f"{option} {text}: there is no rule '{kind}'{did_you_mean(kind, kinds)}; give {forms}")
        if known in ("f1", "off"):
            if equals:
                raise ConfigError(f"{option} {text}: {known} takes no number; give {forms}")
            return cls(known)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < 1:
            raise ConfigError(f"{option} {text}: {kind} is a number between 0 and 1, as in {kind}=0.9")
        return cls(known, number)


@dataclass(frozen=True)
class Choices:
    """What is to be chosen."""

    abstain: Rule | None = None
    """Below which probability nothing is answered."""
    label_thresholds: Rule | None = None
    """From which probability each of several labels is given."""
    calibrate: bool = False
    """A temperature, where it improves the log loss of rows that it is not found on."""

    @classmethod
    def of(cls, *, abstain: str | None = None, label_thresholds: str | None = None, calibrate: bool = False) -> Choices:
        """Read the rules.

        Args:
            abstain: For one label a row: "coverage=0.9" answers the surest nine of ten, "precision=0.95" as many as are right
                to 95 %, "threshold=0.5" those with such a probability, "off" all; for the others the label is "".
            label_thresholds: For several labels a row: "f1" gives each label the threshold with its best F1,
                "precision=0.9" the lowest one with this precision, "off" a half.
            calibrate: Divide logits by a temperature, where it improves the log loss of rows that it is not found on.

        Raises:
            ConfigError: one that is no rule.
        """
        return cls(
            None if abstain is None else Rule.parse(abstain, "--abstain", ABSTAIN),
            None if label_thresholds is None else Rule.parse(label_thresholds, "--label-thresholds", LABELS),
            calibrate,
        )

    @property
    def needs_rows(self) -> bool:
        """Whether labelled rows are needed to choose."""
        return self.calibrate or any(
            rule is not None and rule.needs_rows for rule in (self.abstain, self.label_thresholds)
        )
