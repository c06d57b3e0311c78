"""Image in, one of several labels out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.images import open_image
from adapterhub_lite.tasks.classification import Classification, targets_of
from adapterhub_lite.tasks.pooling import pool
from adapterhub_lite.tasks.task import Batch, Encoded, Example


class ImageClassification(Classification):
    """See the module's docstring. Images are opened when their batch is made, and never all held in memory."""

    name = "image-classification"

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        return Encoded(
            [Example(item, target, 1, 1) for item, target in zip(dataset.inputs, targets_of(dataset), strict=True)]
        )

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        images = [open_image(example.inputs) for example in examples]
        return {"pixel_values": base.processor(images, return_tensors="pt")["pixel_values"]}

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        # While weights of the base train, its parameters are fp32 whatever it was loaded in.
        dtype = next(p for p in base.model.parameters() if p.is_floating_point()).dtype
        hidden = base.model(pixel_values=batch["pixel_values"].to(dtype)).last_hidden_state
        return pool(hidden, None, self.preprocessing.pooling or base.map.pooling), batch.get("targets")
