"""What classification tasks share, whatever their input: targets, loss, class weights, scores and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.data.request import SEVERAL
from adapterhub_lite.plugins.spec import TargetKind
from adapterhub_lite.tasks.head import HeadTask, like
from adapterhub_lite.tasks.metrics import (
    classification_intervals,
    classification_metrics,
    labels_intervals,
    labels_metrics,
)
from adapterhub_lite.tasks.outputs import LabelsPrediction, Prediction
from adapterhub_lite.tasks.stored import reweighed
from adapterhub_lite.tasks.task import Encoded, Example, Preprocessing


class Classification(HeadTask):
    """One of the labels for each input, or any number of them where the form of the data is "several".

    With one label the loss is cross-entropy, with several the binary cross-entropy of each label. Class weights
    ("balanced", as in scikit-learn) are n / (classes * rows of the class); with several labels, a row that has a label
    is weighted by the rows without it over the rows with it.
    """

    higher_is_better = True

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(labels, preprocessing)
        self.several = preprocessing.form == SEVERAL
        self.metric = "macro_f1" if self.several else "accuracy"
        self.target_kind: TargetKind = "labels" if self.several else "classes"
        self._class_weights: list[float] | None = None

    def targets(self, examples: Sequence[Example]) -> Tensor:
        if not self.several:
            return torch.tensor([example.target for example in examples])
        targets = torch.zeros(len(examples), len(self.labels))
        for row, example in enumerate(examples):
            targets[row, list(example.target)] = 1.0
        return targets

    def weight(self) -> float:
        """The weight of all targets of one input together, before class weights."""
        return float(len(self.labels)) if self.several else 1.0

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.several:
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return functional.cross_entropy(logits, targets, reduction="none")

    def balance(self, data: Encoded) -> Encoded:
        if self.preprocessing.options.get("class_weights", "none") == "none":
            self._class_weights = None
            return data
        counts = [0] * len(self.labels)
        for example in data.examples:
            for label in example.target if self.several else [example.target]:
                counts[label] += 1
        n = len(data.examples)
        if self.several:
            self._class_weights = [(n - count) / count if count else 1.0 for count in counts]
        else:
            self._class_weights = [n / (len(counts) * count) if count else 0.0 for count in counts]
        return replace(data, examples=reweighed(data.examples, map(self._weight_of, data.examples)))

    def weights(self, targets: Tensor) -> Tensor | None:
        if self._class_weights is None:
            return None
        weights = like(self._class_weights, targets)
        return 1 + targets * (weights - 1) if self.several else weights[targets]

    def metrics(
        self, logits: Tensor, targets: Tensor, loss: float, rows: Sequence[int] | None = None
    ) -> dict[str, float]:
        return (labels_metrics if self.several else classification_metrics)(logits, targets, loss)

    def intervals(
        self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None = None, groups: Sequence[int] | None = None
    ) -> dict[str, tuple[float, float]]:
        return (labels_intervals if self.several else classification_intervals)(logits, targets, groups)

    def predictions(self, logits: Tensor, data: Encoded) -> list[Prediction] | list[LabelsPrediction]:
        if self.several:
            rows = logits.sigmoid().tolist()
            return [
                LabelsPrediction(
                    tuple(name for name, p in zip(self.labels, row, strict=True) if p >= 0.5),
                    dict(zip(self.labels, row, strict=True)),
                )
                for row in rows
            ]
        probabilities = functional.softmax(logits, dim=-1)
        best = probabilities.argmax(dim=-1).tolist()
        return [
            Prediction(self.labels[i], float(row[i]), dict(zip(self.labels, row.tolist(), strict=True)))
            for i, row in zip(best, probabilities, strict=True)
        ]

    def _weight_of(self, example: Example) -> float:
        assert self._class_weights is not None
        if not self.several:
            return self._class_weights[example.target]
        return self.weight() + sum(self._class_weights[label] - 1 for label in example.target)
