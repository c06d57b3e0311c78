"""Progress of a contest: what a single training says is too much, and its bar is welcome where it is long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

from adapterhub_lite.progress import Bar, Progress, Silent


class OnlyBars:
    """Shows the bars of long work, with the name of the contender it is for, and says nothing else."""

    LONG = MappingProxyType({"training": 50, "encoding": 1000})
    """Steps and examples from which on a bar is worth its line."""

    def __init__(self, progress: Progress):
        self._progress, self._silent = progress, Silent()
        self.name = "comparing"

    def say(self, line: str) -> None:
        self._silent.say(line)

    @contextmanager
    def bar(self, name: str, total: float, unit: str, rate: str = "") -> Iterator[Bar]:
        progress = self._progress if total >= self.LONG.get(name, math.inf) else self._silent
        with progress.bar(f"{self.name}: {name}", total, unit, rate) as bar:
            yield bar
