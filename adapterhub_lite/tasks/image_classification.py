"""Image in, one of several labels out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ModelMap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.images import open_image
from adapterhub_lite.tasks.metrics import classification_metrics
from adapterhub_lite.tasks.pooling import pool
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing
from adapterhub_lite.tasks.text_classification import classification_head


class ImageClassification:
    """See the module's docstring. Images are opened when their batch is made, and never all held in memory."""

    name = "image-classification"
    metric = "accuracy"
    higher_is_better = True

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels = tuple(labels)
        self.preprocessing = preprocessing

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        return classification_head(model_map.hidden_size, len(self.labels))

    def outputs(self, base: Base) -> int:
        return len(self.labels)

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        targets: Sequence[int | None] = dataset.targets if dataset.targets is not None else [None] * len(dataset)
        return Encoded([Example(item, target, 1, 1) for item, target in zip(dataset.inputs, targets, strict=True)])

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        images = [open_image(example.inputs) for example in examples]
        batch = {"pixel_values": base.processor(images, return_tensors="pt")["pixel_values"]}
        if all(example.target is not None for example in examples):
            batch["targets"] = torch.tensor([example.target for example in examples])
        return batch

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        # While weights of the base train, its parameters are fp32 whatever it was loaded in.
        dtype = next(p for p in base.model.parameters() if p.is_floating_point()).dtype
        hidden = base.model(pixel_values=batch["pixel_values"].to(dtype)).last_hidden_state
        return pool(hidden, None, self.preprocessing.pooling or base.map.pooling), batch.get("targets")

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        assert head is not None
        features, targets = self.features(base, batch)
        return head(features).float(), targets

    def metrics(self, logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
        return classification_metrics(logits, targets, loss)
