"""How series are cut into windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from adapterhub_lite.api import ConfigError

Short = Literal["pad", "keep", "drop"]


@dataclass(frozen=True)
class Windows:
    """Windows of one length.

    The last window of a series ends at its last step, the one before it `stride` steps earlier, and so on to its start. The
    target of a window is that of the step it ends at; in data with one target a series, that of the series.
    """

    length: int
    """Steps a window."""
    stride: int = 1
    """Steps from the end of one window to the end of the next."""
    last_only: bool = False
    """Only the last window of each series, to predict from all that is known by then."""
    short: Short = "pad"
    """Windows that begin before their series does: "pad" repeats the first step in front of it, "keep" makes them
    shorter (2 steps at least), "drop" leaves them out."""

    def __post_init__(self) -> None:
        for name, least in (("length", 2), ("stride", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"windows: {name} {value!r} cannot be used; give a whole number of at least {least}")
        if self.short not in get_args(Short):
            raise ConfigError(f"windows: short {self.short!r} is not known; use one of {', '.join(get_args(Short))}")
