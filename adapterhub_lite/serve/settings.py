"""Where a server listens and how much it takes on. No torch, and nothing of the extra, here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag

TOKEN = "ADAPTERHUB_TOKEN"
"""The environment variable that may hold the token, which on a command line other users of a machine can see."""


class Settings(BaseModel):
    """Where to listen, and the limits beyond which a request is refused.

    Raises:
        ConfigError: naming every value that is out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="Address to listen at; 0.0.0.0 lets other machines in.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    token: Annotated[str | None, Flag(metavar="TEXT", unset=f"that in {TOKEN}, or none")] = Field(
        None, min_length=1, description="What requests have to bring as `Authorization: Bearer TEXT`."
    )
    max_mb: float = Field(8.0, gt=0, le=1024, description="Megabytes a request may have.")
    max_rows: int = Field(256, ge=1, description="Rows that one request may ask predictions for.")
    max_tokens: int = Field(
        512,
        ge=1,
        description="Tokens that an answer may have, and those at which it is cut where a request says nothing.",
    )
    at_once: int = Field(16, ge=1, description="Rows or prompts of waiting requests that are answered in one batch.")
    queue: int = Field(256, ge=0, description="Requests that may wait for a base; one more is answered with 429.")
    connections: int = Field(512, ge=1, description="Requests that are handled at once; one more is answered with 503.")
    patience: float = Field(30.0, gt=0, description="Seconds in which a request has to arrive.")
    grace: float = Field(30.0, ge=0, description="Seconds that requests have to end in when the server is stopped.")

    if not TYPE_CHECKING:  # which knows the options by the fields

        def __init__(self, **options):
            try:
                super().__init__(**options)
            except ValidationError as error:
                said = (f"{p['loc'][0]} is {p['input']!r:.80}: {p['msg'].lower()}" for p in error.errors())
                raise ConfigError("; ".join(said)) from None

    @property
    def max_bytes(self) -> int:
        """Bytes a request may have."""
        return int(self.max_mb * 1e6)
