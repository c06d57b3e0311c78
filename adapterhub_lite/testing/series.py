"""A task on time series for the kit alone, until the library has one: two classes from averaged raw outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from adapterhub_lite.api import ModelMap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data import Dataset
from adapterhub_lite.tasks.metrics import classification_metrics
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing
from adapterhub_lite.testing.problems import CLASSES


class SeriesClassification:
    """See the module's docstring; it follows `adapterhub_lite.tasks.task.Task`."""

    name = "series-classification"
    metric = "accuracy"
    higher_is_better = True

    def __init__(self) -> None:
        self.labels: tuple[str, ...] = CLASSES
        self.preprocessing = Preprocessing(pooling="mean")

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        return nn.Linear(model_map.hidden_size, len(self.labels))

    def outputs(self, base: Base) -> int:
        return len(self.labels)

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        targets: Sequence[int | None] = dataset.targets if dataset.targets is not None else [None] * len(dataset)
        return Encoded([Example(item, target, 1, 1) for item, target in zip(dataset.inputs, targets, strict=True)])

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        values = torch.from_numpy(np.stack([example.inputs for example in examples]))  # (batch, time, channels)
        return {"past_values": values, "targets": torch.tensor([example.target for example in examples])}

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        dtype = next(p for p in base.model.parameters() if p.is_floating_point()).dtype
        hidden = base.model(past_values=batch["past_values"].to(dtype)).last_hidden_state
        return hidden.float().flatten(1, -2).mean(dim=1), batch.get("targets")  # (batch, hidden_size)

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        assert head is not None
        features, targets = self.features(base, batch)
        return head(features).float(), targets

    def metrics(self, logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
        return classification_metrics(logits, targets, loss)
