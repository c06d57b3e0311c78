"""Texts that say nothing, with labels that do."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.data.dataset import Dataset
from tests.reading import load_data


def labelled(labels: list[Any]) -> Dataset:
    """A text of its own for each of these labels."""
    rows = {"text": [f"text {index}" for index in range(len(labels))], "label": labels}
    return load_data(rows, "text-classification")
