"""What regression tasks share, whatever their input: one number for each, learnt in standard units.

A subclass says how inputs become features, and in `settle` keeps what `standard_units` gives in `Preprocessing.facts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterCorruptError, DataError
from adapterhub_lite.plugins.spec import TargetKind
from adapterhub_lite.scoring.by_value import ValueDetail, of_values
from adapterhub_lite.scoring.metrics import values_intervals, values_metrics
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.outputs import ValuePrediction
from adapterhub_lite.tasks.task import Encoded, Example, Preprocessing


def standard_units(data: Dataset) -> dict[str, float]:
    """Mean and spread (population standard deviation) of the targets, in the units of the data.

    Raises:
        DataError: no targets, or nothing to learn because they are all alike.
    """
    if not data.targets:
        raise DataError(f"{data.source}: has no targets to learn from; name their column with --column target=NAME")
    values = torch.tensor(data.targets, dtype=torch.float64)
    mean, spread = float(values.mean()), float(values.std(correction=0))
    # Around a mean of a million, differences in the last bit of a float are rounding.
    if not spread > 1e-9 * abs(mean) or values.min() == values.max():
        raise DataError(
            f"{data.source}: every target is {float(values[0]):g}, so that there is nothing to learn; "
            "choose another column with --column target=NAME"
        )
    return {"mean": mean, "spread": spread}


class Regression(HeadTask):
    """One number for each input.

    The head predicts standard units, (target - mean) / spread of the training data; the loss is the squared error in
    these units. Predictions and scores are in the units of the data.
    """

    metric = "rmse"
    higher_is_better = False
    target_kind: TargetKind = "values"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(labels, preprocessing)
        facts = preprocessing.facts
        self.mean, self.spread = (_number(facts.get(name), name) for name in ("mean", "spread"))
        if self.spread <= 0:
            raise AdapterCorruptError(f"adapterhub.json: task.preprocessing.facts: spread is {self.spread:g}")

    @property
    def output_size(self) -> int:
        return 1

    def targets(self, examples: Sequence[Example]) -> Tensor:
        values = torch.tensor([[example.target] for example in examples], dtype=torch.float64)
        return ((values - self.mean) / self.spread).float()  # (batch, 1)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(logits, targets, reduction="none")

    def metrics(
        self, logits: Tensor, targets: Tensor, loss: float, rows: Sequence[int] | None = None
    ) -> dict[str, float]:
        return {**values_metrics(self._in_units(logits), self._in_units(targets)), "loss": loss}

    def intervals(
        self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None = None, groups: Sequence[int] | None = None
    ) -> dict[str, tuple[float, float]]:
        return values_intervals(self._in_units(logits), self._in_units(targets), groups)

    def detail(self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None, known: int) -> ValueDetail:
        return of_values(self._in_units(targets).numpy(), self._in_units(logits).numpy())

    def predictions(self, logits: Tensor, data: Encoded) -> list[ValuePrediction]:
        return [ValuePrediction(value) for value in self._in_units(logits).tolist()]

    def _in_units(self, values: Tensor) -> Tensor:
        """(n, 1) standard units as (n,) in the units of the data, in double precision."""
        return values[:, 0].double() * self.spread + self.mean


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise AdapterCorruptError(
            f"adapterhub.json: task.preprocessing.facts: {name} is {str(value)[:40]!r}, not a number; "
            "save the adapter again"
        )
    return float(value)
