"""A tiny PatchTST and a problem that it can learn, for the conformance kit."""

from __future__ import annotations

from typing import Any

import numpy as np

import adapterhub_series
from adapterhub_lite.api import Dataset, TinyModel
from adapterhub_series.options import CLASSIFICATION, REGRESSION

ROWS = 16
CLASSES = ("no", "yes")
SERIES_LENGTH, CHANNELS = 32, 2
# Widths are multiples of 64, the block of NF4.
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 64


def patchtst() -> tuple[Any, None]:
    """The model, and no processor."""
    from transformers import PatchTSTConfig, PatchTSTModel

    config = PatchTSTConfig(
        num_input_channels=CHANNELS, context_length=SERIES_LENGTH, patch_length=8, patch_stride=8,
        d_model=HIDDEN, num_attention_heads=HEADS, num_hidden_layers=LAYERS, ffn_dim=INNER, init_std=0.2,
        attention_dropout=0.0, ff_dropout=0.0, positional_dropout=0.0, path_dropout=0.0,
    )  # fmt: skip
    return PatchTSTModel(config), None


def waves() -> Dataset:
    """Slow or fast waves with noise. Each (SERIES_LENGTH, CHANNELS) float32."""
    random = np.random.default_rng(0)
    steps = np.linspace(0, 2 * np.pi, SERIES_LENGTH)
    inputs = []
    for row in range(ROWS):
        wave = np.sin(steps * (4 if row % 2 else 1) + random.uniform(0, 6))
        values = wave[:, None] + 0.1 * random.standard_normal((SERIES_LENGTH, CHANNELS))
        inputs.append(values.astype(np.float32))
    targets = tuple(row % 2 for row in range(ROWS))
    return Dataset(CLASSIFICATION, inputs, targets, CLASSES, {}, "<kit>", "", None)


def heights() -> Dataset:
    """Waves of several heights, which are the numbers."""
    data = waves()
    targets = tuple(float(1 + row % 4) for row in range(ROWS))
    inputs = [values * height for values, height in zip(data.inputs, targets, strict=True)]
    return Dataset(REGRESSION, inputs, targets, (), {}, "<kit>", "", None)


TINY = (
    TinyModel("series", "PatchTST, for series classification", patchtst, waves, adapterhub_series),
    TinyModel("heights", "PatchTST, for series regression", patchtst, heights, adapterhub_series, for_task=True),
)
