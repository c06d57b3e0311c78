"""Scores of an adapter on labelled rows, in short and in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.evaluation.predictions import RowOutputs
from adapterhub_lite.names import scores_shown
from adapterhub_lite.notebook import table
from adapterhub_lite.scoring.detail import Detail
from adapterhub_lite.tasks.outputs import ClassColumns

BARE = "bare_"
"""What the names of the bare base's scores begin with."""


@dataclass(frozen=True)
class UnknownLabel:
    """A label of the data that the adapter was not trained on."""

    label: str
    n: int
    """Rows that have it."""
    rows: tuple[int, ...]
    """The numbers of the first of them in the file, counted from 1."""


@dataclass(frozen=True)
class ScoredRows:
    """The rows that were scored, with what was wanted and what was said."""

    data: Dataset
    outputs: RowOutputs

    def columns(self, chosen: ClassColumns) -> dict[str, Sequence[Any]]:
        """What is written beside each row: what was wanted, what was predicted, and probabilities."""
        names = (*self.data.labels, *self.data.unknown)

        def named(target: Any) -> Any:
            return [names[i] for i in target] if isinstance(target, tuple) else names[target] if names else target

        return {"wanted": [named(target) for target in self.data.targets or ()], **self.outputs.columns(chosen)}


@dataclass(frozen=True)
class Evaluation:
    """Scores on a dataset."""

    n: int
    metrics: dict[str, float]
    notes: tuple[str, ...] = ()
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % confidence intervals of some of the metrics, for rows drawn like these; where rows have groups, for groups."""

    detail: Detail | None = field(default=None, repr=False)
    """Scores by class, label or range, confusions and calibration; None for a language model."""
    unknown: tuple[UnknownLabel, ...] = ()
    """Labels that the adapter does not know. Their rows count as wrong, and in the loss not at all."""
    rows: ScoredRows | None = field(default=None, repr=False, compare=False)
    """The rows with their predictions; None for a language model."""

    def in_full(self) -> dict[str, Any]:
        """All of it as JSON but the rows, as `evaluate --json` prints it."""
        return {
            "n": self.n,
            "metrics": self.metrics,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "detail": None if self.detail is None else self.detail.record(),
            "unknown_labels": [asdict(label) for label in self.unknown],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        """The scores, in a notebook."""
        notes = [("note", note) for note in self.notes]
        return table(f"scores on {self.n:,} rows", [*scores_shown(self.record()), *notes])

    def record(self) -> dict[str, float]:
        """The scores and their intervals as numbers by name, as saved with an adapter."""
        ends: dict[str, float] = {}
        for name, (low, high) in self.intervals.items():
            ends |= {f"{name}_low": low, f"{name}_high": high}
        return {"n": float(self.n), **self.metrics, **ends}
