"""A task on time series for the kit alone, until the library has one: two classes from averaged raw outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapterhub_lite.api import Modality, ModelMap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data import Dataset
from adapterhub_lite.tasks.classification import Classification
from adapterhub_lite.tasks.head import targets_of
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing
from adapterhub_lite.testing.problems import CLASSES


class SeriesClassification(Classification):
    """See the module's docstring."""

    name = "series-classification"
    modality: Modality = "series"

    def __init__(self) -> None:
        super().__init__(CLASSES, Preprocessing(pooling="mean"))

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        return nn.Linear(self.feature_size(model_map), len(self.labels))

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        rows = zip(dataset.inputs, targets_of(dataset), strict=True)
        return Encoded([Example(item, target, 1, 1) for item, target in rows])

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        values = torch.from_numpy(np.stack([example.inputs for example in examples]))  # (batch, time, channels)
        return {"past_values": values}

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        dtype = next(p for p in base.model.parameters() if p.is_floating_point()).dtype
        hidden = base.model(past_values=batch["past_values"].to(dtype)).last_hidden_state
        return hidden.float().flatten(1, -2).mean(dim=1), batch.get("targets")  # (batch, hidden_size)

    def samples(self) -> list[Any]:
        return []

    def probe(self, item: Any, number: int) -> Any:
        return None

    def item_of_probe(self, value: Any) -> Any:
        raise NotImplementedError
