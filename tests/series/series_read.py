"""What was read of a file of series, for comparing it."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapterhub_lite.data.dataset import Dataset


def names_of(dataset: Dataset) -> list[str]:
    """The name of the class of every series."""
    assert dataset.targets is not None
    return [dataset.labels[target] for target in dataset.targets]


def same(one: Any, other: Any) -> bool:
    """Whether series that were read are these, to the bit of fp32."""
    return len(one) == len(other) and all(
        np.array_equal(a, np.asarray(b, np.float32), equal_nan=True) for a, b in zip(one, other, strict=True)
    )
