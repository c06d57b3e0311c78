"""Scores of several models on the same rows, and whether the differences between them could be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterhub_lite.scoring.metrics import percentile_interval, resamples
from adapterhub_lite.tasks.task import Example, Task

FEWEST_APART = 6
"""Rows or groups on which two models have to differ: of five that all favour one, a sign test says p = 0.06."""
SLOW_RESAMPLES = 200
"""Draws for a task with several targets a row, whose scores take long."""


@dataclass(frozen=True)
class Difference:
    """A score minus the one it is compared with, and its paired 95 % interval over rows, or groups, drawn again."""

    value: float
    low: float
    high: float
    apart: bool
    """The interval does not hold 0, and enough rows differ: it is not chance."""


class Judge:
    """Scores what models say about the same rows.

    What a model says are its outputs, (targets, outputs) logits as the task's head gives them; of a language model the summed
    losses of each row, (rows,).

    Args:
        task: Says how outputs are scored.
        examples: The rows that are scored.
        targets: What the outputs should say, as the task makes them; None for a language model.
        groups: The group of each row, if there are groups.
    """

    def __init__(
        self, task: Task, examples: Sequence[Example], targets: Tensor | None, groups: Sequence[int] | None = None
    ):
        self._task, self._targets, self._groups = task, targets, groups
        self.counts = torch.tensor([example.rows for example in examples])
        self.metric = "loss" if targets is None else task.metric
        self.higher_is_better = targets is not None and task.higher_is_better
        self._several = targets is not None and bool((self.counts != 1).any())
        self._starts = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return len(self.counts)

    def score(self, said: Tensor, rows: Tensor | None = None) -> float:
        """The task's metric on all rows, or on some of them, which may come more than once."""
        rows = torch.arange(len(self)) if rows is None else rows
        if self._targets is None:
            return float(said[rows].sum() / self.counts[rows].sum())
        places = rows
        if self._several:
            places = torch.cat([torch.arange(int(n)) + start for start, n in self._spans(rows)])
        logits, targets = said[places], self._targets[places]
        return self._task.metrics(logits, targets, 0.0, self.counts[rows].tolist())[self.metric]

    def interval(self, said: Tensor) -> tuple[float, float]:
        """The 95 % interval of the metric, as `evaluate` gives it, or else by drawing rows again."""
        if self._targets is not None:
            intervals = self._task.intervals(said, self._targets, self.counts.tolist(), self._groups)
            if self.metric in intervals:
                return intervals[self.metric]
        return percentile_interval(self._drawn({"": said})[0])

    def differences(self, said: Mapping[str, Tensor], to: str) -> dict[str, Difference]:
        """How each model differs from one of them."""
        drawn = dict(zip(said, self._drawn(said), strict=True))
        base, errors = self.score(said[to]), self._errors(said[to])
        made: dict[str, Difference] = {}
        for name, outputs in said.items():
            low, high = percentile_interval(drawn[name] - drawn[to])
            differing = (self._errors(outputs) - errors).abs() > 1e-12
            units = len(differing.nonzero())
            if self._groups is not None:
                units = len(torch.tensor(self._groups)[differing].unique())
            apart = units >= FEWEST_APART and not low <= 0 <= high
            made[name] = Difference(self.score(outputs) - base, low, high, apart)
        return made

    def _drawn(self, said: Mapping[str, Tensor]) -> list[Tensor]:
        """The scores of each model on the same draws of rows, one at a time; (draws,) float64 each."""
        draws = resamples(len(self), self._groups, SLOW_RESAMPLES if self._several else None)
        if self.metric == "accuracy" and not self._several:  # a mean over rows, which of many classes is much quicker
            right = 1 - torch.stack([self._errors(outputs) for outputs in said.values()])  # (models, rows)
            scores = [right[:, rows].mean(dim=1) for rows in draws]
        else:
            of_draws = ([self.score(outputs, rows) for outputs in said.values()] for rows in draws)
            scores = [torch.tensor(row, dtype=torch.float64) for row in of_draws]
        return list(torch.stack(scores, dim=1))

    def _errors(self, said: Tensor) -> Tensor:
        """How wrong each row is: wrong targets, squared errors, or losses; (rows,) float64."""
        if self._targets is None:
            return said.double()
        kind = self._task.target_kind
        if kind == "classes":
            wrong = (said.argmax(dim=-1) != self._targets).double()
        elif kind == "labels":
            wrong = ((said >= 0) != (self._targets > 0.5)).double().sum(dim=1)
        else:
            wrong = (said - self._targets).double().pow(2).sum(dim=-1)
        return torch.zeros(len(self), dtype=torch.float64).index_add_(
            0, torch.arange(len(self)).repeat_interleave(self.counts), wrong
        )

    def _spans(self, rows: Tensor) -> list[tuple[int, int]]:
        return list(zip(self._starts[rows].tolist(), self.counts[rows].tolist(), strict=True))
