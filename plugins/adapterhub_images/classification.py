"""Image in, one of several labels or any number of them out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapterhub_images.image import open_image
from adapterhub_images.options import ImageClassificationOptions
from adapterhub_lite.api import (
    AdapterCorruptError,
    Base,
    Batch,
    Classification,
    Dataset,
    Encoded,
    Example,
    Modality,
    Preprocessing,
    pool,
    targets_of,
)


class ImageClassification(Classification):
    """Classifies images, each with one label or with any number of them.

    An image is opened when its batch is made; the images are never all held in memory.
    """

    name = "image-classification"
    modality: Modality = "image"
    auto_class = "AutoModelForImageClassification"

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: ImageClassificationOptions) -> Preprocessing:
        """Nothing has to be settled but the pooling."""
        return Preprocessing(
            pooling=options.pooling or base.map.pooling,
            form=data.form,
            options=options.model_dump(mode="json", exclude_unset=True),
        )

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        rows = zip(map(_settled, dataset.inputs), targets_of(dataset), strict=True)
        return Encoded([Example(item, target, 1, self.weight()) for item, target in rows])

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        images = [open_image(example.inputs) for example in examples]
        return {"pixel_values": base.processor(images, return_tensors="pt")["pixel_values"]}

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        # While weights of the base train, its parameters are fp32 whatever it was loaded in.
        dtype = next(p for p in base.model.parameters() if p.is_floating_point()).dtype
        pixels = batch["pixel_values"].to(dtype)  # (batch, channels, height, width)
        if pixels.device.type == "cpu":
            pixels = pixels.contiguous(memory_format=torch.channels_last)  # MobileNetV2: two thirds of the time
        hidden = base.model(pixel_values=pixels).last_hidden_state
        return pool(hidden, None, self.preprocessing.pooling or base.map.pooling), batch.get("targets")

    def samples(self) -> list[Any]:
        random = np.random.default_rng(0)
        return [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(4)]

    def probe(self, item: Any, number: int) -> Any:
        return {"noise": number}  # images are too large to keep, and may be private

    def item_of_probe(self, value: Any) -> Any:
        match value:
            case {"noise": int(number), **rest} if not rest:
                pixels = hashlib.shake_256(str(number).encode()).digest(64 * 64 * 3)
                return np.frombuffer(pixels, np.uint8).reshape(64, 64, 3)
        raise AdapterCorruptError(
            f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
        )


def _settled(item: Any) -> Any:
    """An opened image as its pixels, for its palette and its rotation are not among them; anything else as it is."""
    return np.asarray(open_image(item)) if hasattr(item, "getpalette") else item
