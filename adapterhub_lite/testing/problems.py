"""Tiny learnable problems, made in code: one for each kind of model."""

from __future__ import annotations

import numpy as np

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.causal_lm import Completion
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


def completions() -> Dataset:
    """Numbers counted up or down; what comes next is to be learnt."""
    inputs = []
    for row in range(ROWS):
        count = WORDS[:10] if row % 2 else WORDS[:10][::-1]
        start = row // 2 % 4
        cut = start + 2 + row % 3
        inputs.append(Completion(" ".join(count[start:cut]), " ".join(count[cut : cut + 3])))
    return Dataset("causal-lm", inputs, None, (), {}, "<kit>", "", None, form="completion")
