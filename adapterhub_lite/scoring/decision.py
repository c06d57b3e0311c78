"""What was chosen on held-out rows between a model's outputs and its answers, as it is kept in the manifest. No numpy here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TemperatureRecord(_Record):
    """The number that logits are divided by, found on held-out rows."""

    value: float = Field(gt=0, le=1e3, allow_inf_nan=False, description="The temperature.")
    rows: int = Field(ge=1, description="Held-out rows it was found on.")
    loss_before: Finite = Field(description="Their log loss without it, in nats.")
    loss_after: Finite = Field(description="Their log loss with temperatures found on other parts of them.")


class AbstentionRecord(_Record):
    """The probability below which nothing is answered."""

    threshold: Share = Field(description="The probability of the likeliest class from which it is answered.")
    rule: str = Field(description="How it was chosen, as in coverage=0.9.")
    rows: int = Field(ge=0, description="Held-out rows it was chosen on; 0 where it was given.")
    coverage: Share | None = Field(None, description="Share of them answered, chosen on other parts of them.")
    accuracy: Share | None = Field(None, description="Share of those that is right, chosen on other parts of them.")


class LabelThresholdsRecord(_Record):
    """The probability from which each of several labels is given."""

    thresholds: list[Share] = Field(description="For each label; one with 1 is never given.")
    rule: str = Field(description="How they were chosen: f1, or as in precision=0.9.")
    rows: int = Field(ge=1, description="Held-out rows they were chosen on.")
    macro_f1_before: Share = Field(description="Macro-F1 of these rows with a half for all labels.")
    macro_f1_after: Share = Field(description="Macro-F1 of these rows with thresholds chosen on other parts of them.")


class DecisionRecord(_Record):
    """What is done between the outputs and the answer; nothing, unless something was chosen on held-out rows."""

    temperature: TemperatureRecord | None = Field(None, description="What logits are divided by.")
    abstention: AbstentionRecord | None = Field(None, description="Below which probability nothing is answered.")
    labels: LabelThresholdsRecord | None = Field(None, description="From which probability each label is given.")

    @property
    def divisor(self) -> float:
        """What logits are divided by."""
        return 1.0 if self.temperature is None else self.temperature.value

    def in_words(self) -> list[str]:
        """A line on each thing that was chosen, with what it is worth on rows that were left out of choosing."""
        lines = []
        if self.temperature is not None:
            t = self.temperature
            lines.append(
                f"logits are divided by {t.value:.3g}: log loss {t.loss_after:.4f} instead of {t.loss_before:.4f} on {t.rows} "
                "held-out rows, each with a temperature found on the others"
            )
        if self.abstention is not None:
            a, given = self.abstention, ""
            if a.coverage is not None:
                right = "" if a.accuracy is None else f", and {a.accuracy:.1%} of the answers are right"
                given = f"; of {a.rows} held-out rows, each with a threshold chosen on others, {a.coverage:.1%} are answered"
                given += right
            lines.append(f"answered from a probability of {a.threshold:.4g} on, and nothing below it ({a.rule}){given}")
        if self.labels is not None:
            own = self.labels
            lines.append(
                f"each label has its threshold ({own.rule}): macro-F1 {own.macro_f1_after:.4f} instead of "
                f"{own.macro_f1_before:.4f} on {own.rows} held-out rows, each with thresholds chosen on others"
            )
        return lines


PLAIN = DecisionRecord()
"""The likeliest class, or the labels with a probability of at least a half."""
