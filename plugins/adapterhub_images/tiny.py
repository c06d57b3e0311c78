"""A tiny vision transformer and a problem that it can learn, for the conformance kit."""

from __future__ import annotations

from typing import Any

import numpy as np

import adapterhub_images
from adapterhub_images.options import TASK
from adapterhub_lite.api import Dataset, TinyModel

ROWS = 16
CLASSES = ("no", "yes")
# Widths are multiples of 64, the block of NF4.
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 64


def vit() -> tuple[Any, Any]:
    """The model and its image processor."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS, image_size=16,
        patch_size=4, initializer_range=0.2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return ViTModel(config, add_pooling_layer=False), ViTImageProcessorPil(size={"height": 16, "width": 16})


def halves() -> Dataset:
    """Noise, brighter on the left or on the right. Each (16, 16, 3) uint8."""
    random = np.random.default_rng(0)
    inputs = []
    for row in range(ROWS):
        pixels = random.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        half = slice(8, 16) if row % 2 else slice(0, 8)
        pixels[:, half] += 120
        inputs.append(pixels)
    targets = tuple(row % 2 for row in range(ROWS))
    return Dataset(TASK, inputs, targets, CLASSES, {}, "<kit>", "", None)


TINY = TinyModel("vision", "ViT with its PIL image processor", vit, halves, adapterhub_images)
