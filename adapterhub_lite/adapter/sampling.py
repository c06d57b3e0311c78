"""How text is continued: how long, how freely, and what ends it. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag

COLDEST = 1e-4
"""Least temperature but 0; below, logits divided by it may be too large."""
OF_BASE = Flag(unset="as the base's generation_config.json says; none where it says nothing")


class Sampling(BaseModel):
    """How prompts are answered; by default with the likeliest token each time, whatever the base itself suggests.

    Raises:
        ConfigError: naming every option that is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    max_new_tokens: int = Field(
        default=128, ge=1, description="Tokens at which an answer is cut, if it is not at its end before."
    )
    temperature: Annotated[
        float | None, Flag(unset="0; the base's own, or 1, where one of the next three is given")
    ] = Field(default=None, description="0 takes the likeliest token each time; above, tokens are drawn.")
    top_p: Annotated[float | None, OF_BASE] = Field(
        default=None, gt=0, le=1, description="Draw from the likeliest tokens that have this probability together."
    )
    top_k: Annotated[int | None, OF_BASE] = Field(
        default=None, ge=1, description="Draw from so many of the likeliest tokens."
    )
    min_p: Annotated[float | None, OF_BASE] = Field(
        default=None, ge=0, le=1, description="Draw from tokens at least this share as likely as the likeliest."
    )
    repetition_penalty: Annotated[float | None, OF_BASE] = Field(
        default=None,
        gt=0,
        description="What the scores of tokens that were there before are divided by; 1 changes nothing.",
    )
    stop: Annotated[list[str], Flag(metavar="TEXT")] = Field(
        default_factory=list, description="Text at which an answer ends, without it; as often as needed."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="Of what is drawn; each row draws from a stream of its own."
    )
    at_once: int = Field(
        default=16,
        ge=1,
        description="Prompts answered at once; halved where memory runs out, and of no effect on an answer.",
    )

    if not TYPE_CHECKING:  # which knows the options by the fields

        def __init__(self, **options):
            try:
                super().__init__(**options)
            except ValidationError as error:
                known = ", ".join(Sampling.model_fields)
                said = (f"{p['loc'][0]} is {p['input']!r:.80}: {p['msg'].lower()}" for p in error.errors())
                raise ConfigError(f"{'; '.join(said)}; the options are: {known}") from None

    @field_validator("temperature")
    @classmethod
    def _not_too_cold(cls, value: float | None) -> float | None:
        if value is not None and value != 0 and value < COLDEST:
            raise ValueError(f"give 0 for the likeliest tokens, or {COLDEST} and above")
        return value

    @field_validator("stop")
    @classmethod
    def _some_text(cls, value: list[str]) -> list[str]:
        if not all(value):
            raise ValueError("an empty text would end every answer at once")
        return value

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn."""
        if self.temperature is None:
            return any(given is not None for given in (self.top_p, self.top_k, self.min_p))
        return self.temperature > 0
