"""Tiny learnable problems, made in code: one for each kind of model."""

from __future__ import annotations

from typing import Any

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
    return _classes("text-classification", inputs)


def completions() -> Dataset:
    """Numbers counted up or down; what comes next is to be learnt."""
    inputs = []
    for row in range(ROWS):
        count = WORDS[:10] if row % 2 else WORDS[:10][::-1]
        start = row // 2 % 4
        cut = start + 2 + row % 3
        inputs.append(Completion(" ".join(count[start:cut]), " ".join(count[cut : cut + 3])))
    return Dataset("causal-lm", inputs, None, (), {}, "<kit>", "", None, form="completion")


def images() -> Dataset:
    """Noise, brighter on the left or on the right. Each (16, 16, 3) uint8."""
    random = np.random.default_rng(0)
    inputs = []
    for row in range(ROWS):
        pixels = random.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        half = slice(8, 16) if row % 2 else slice(0, 8)
        pixels[:, half] += 120
        inputs.append(pixels)
    return _classes("image-classification", inputs)


def _classes(task: str, inputs: list[Any]) -> Dataset:
    targets = tuple(row % 2 for row in range(len(inputs)))
    return Dataset(task, inputs, targets, CLASSES, {}, "<kit>", "", None)
