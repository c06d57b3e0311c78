"""A tiny learnable problem, made in code."""

from __future__ import annotations

import numpy as np

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.testing.tokenizer import WORDS

ROWS = 16
CLASSES = ("no", "yes")


def texts() -> Dataset:
    """Texts of two to nine words; the label says which of two words is among them."""
    random = np.random.default_rng(0)
    inputs = []
    for row in range(ROWS):
        words = list(random.choice(WORDS[12:], size=1 + row % 8))
        words.insert(int(random.integers(0, len(words) + 1)), "good" if row % 2 else "bad")
        inputs.append(" ".join(words))
    targets = tuple(row % 2 for row in range(ROWS))
    return Dataset("text-classification", inputs, targets, CLASSES, {}, "<kit>", "", None)
