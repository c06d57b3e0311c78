"""What classifiers of all kinds of input share: a linear head on pooled features, and its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ModelMap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.metrics import classification_metrics
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing


class Classification(ABC):
    """One of several labels for each input; a subclass says how inputs become features."""

    name: str
    metric = "accuracy"
    higher_is_better = True

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels = tuple(labels)
        self.preprocessing = preprocessing

    @abstractmethod
    def encode(self, dataset: Dataset, base: Base) -> Encoded: ...

    @abstractmethod
    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        """Tensors of the inputs alone."""

    @abstractmethod
    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]: ...

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        # In fp32, and from small weights, so that the first loss is close to log(classes).
        head = nn.Linear(model_map.hidden_size, len(self.labels))
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def outputs(self, base: Base) -> int:
        return len(self.labels)

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        batch = self.inputs(examples, base)
        if all(example.target is not None for example in examples):
            batch["targets"] = torch.tensor([example.target for example in examples])
        return batch

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        assert head is not None
        features, targets = self.features(base, batch)
        return head(features).float(), targets

    def metrics(self, logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
        return classification_metrics(logits, targets, loss)


def targets_of(dataset: Dataset) -> Sequence[int | None]:
    """The class of each row, None for every row of unlabelled data."""
    return dataset.targets if dataset.targets is not None else [None] * len(dataset)
