"""What classification tasks share, whatever their input: targets, loss, class weights, scores and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.data.request import SEVERAL
from adapterhub_lite.plugins.spec import TargetKind
from adapterhub_lite.scoring.metrics import (
    classification_intervals,
    classification_metrics,
    labels_intervals,
    labels_metrics,
    share_interval,
)
from adapterhub_lite.scoring.of_classes import ClassDetail, detail_of_classes
from adapterhub_lite.scoring.of_labels import LabelDetail, detail_of_labels
from adapterhub_lite.tasks.head import HeadTask, like
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
            targets[row, [label for label in example.target if label < len(self.labels)]] = 1.0
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
        if self.several:
            return labels_metrics(self._over_thresholds(logits), targets, loss)
        scores, answered = classification_metrics(logits, targets, loss), self._answered(logits)
        if answered is not None:
            scores["coverage"] = float(answered.double().mean())
            if answered.any():
                scores["accuracy_answered"] = float((logits.argmax(dim=-1) == targets)[answered].double().mean())
        return scores

    def intervals(
        self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None = None, groups: Sequence[int] | None = None
    ) -> dict[str, tuple[float, float]]:
        if self.several:
            return labels_intervals(self._over_thresholds(logits), targets, groups)
        intervals, answered = classification_intervals(logits, targets, groups), self._answered(logits)
        if answered is not None:
            intervals["coverage"] = share_interval(answered, groups)
            if answered.any():
                own = (
                    None
                    if groups is None
                    else [group for group, is_own in zip(groups, answered, strict=True) if is_own]
                )
                right = (logits.argmax(dim=-1) == targets)[answered]
                intervals["accuracy_answered"] = share_interval(right, own)
        return intervals

    def detail(
        self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None, known: int
    ) -> ClassDetail | LabelDetail:
        if self.several:
            said, wanted = (tensor.numpy() for tensor in (self._over_thresholds(logits) >= 0, targets > 0.5))
            probability = logits[:, :known].sigmoid().numpy()
            return detail_of_labels(wanted, said, probability, self.labels, known, self.thresholds())
        best, sure = likeliest(logits)
        abstention = self.decision.abstention
        threshold = None if abstention is None else abstention.threshold
        return detail_of_classes(targets.numpy(), best.numpy(), sure.numpy(), self.labels, known, threshold)

    def thresholds(self) -> tuple[float, ...]:
        """The probability from which each label is given, where rows have any number of them."""
        chosen = self.decision.labels
        return tuple(chosen.thresholds) if chosen is not None else (0.5,) * len(self.labels)

    def _over_thresholds(self, logits: Tensor) -> Tensor:
        """Logits, (n, labels), moved so that a label is given from 0 on; labels beyond those of the thresholds are not moved."""
        if self.decision.labels is None:
            return logits
        borders = torch.logit(torch.tensor(self.decision.labels.thresholds, dtype=torch.float64))
        return logits - functional.pad(borders, (0, logits.shape[1] - len(borders)))

    def _answered(self, logits: Tensor) -> Tensor | None:
        """The rows, (n,), that are answered; None where all are."""
        abstention = self.decision.abstention
        return None if abstention is None else likeliest(logits)[1] >= abstention.threshold

    def predictions(self, logits: Tensor, data: Encoded) -> list[Prediction] | list[LabelsPrediction]:
        if self.several:
            rows, given = logits.sigmoid().tolist(), (self._over_thresholds(logits) >= 0).tolist()
            return [
                LabelsPrediction(
                    tuple(name for name, is_given in zip(self.labels, own, strict=True) if is_given),
                    dict(zip(self.labels, row, strict=True)),
                )
                for row, own in zip(rows, given, strict=True)
            ]
        probabilities = functional.softmax(logits, dim=-1)
        best, answered = probabilities.argmax(dim=-1).tolist(), self._answered(logits)
        names = [self.labels[i] if answered is None or answered[row] else "" for row, i in enumerate(best)]
        return [
            Prediction(name, float(row[i]), dict(zip(self.labels, row.tolist(), strict=True)))
            for name, i, row in zip(names, best, probabilities, strict=True)
        ]

    def _weight_of(self, example: Example) -> float:
        assert self._class_weights is not None
        if not self.several:
            return self._class_weights[example.target]
        return self.weight() + sum(self._class_weights[label] - 1 for label in example.target)


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class of each row, (n,) int64, and its probability, (n,) float64, without those of all classes at once."""
    top, best = logits.max(dim=-1)
    return best, (top - torch.logsumexp(logits, dim=-1)).double().exp()
