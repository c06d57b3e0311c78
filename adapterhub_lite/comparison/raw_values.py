"""The baseline of images and series: ridge regression on pixels or steps, as the base's processor prepares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.comparison.baselines import Problem, Said
from adapterhub_lite.comparison.linear import fitted
from adapterhub_lite.tasks.task import Encoded

SIDE, STEPS = 16, 32
"""What images and series are made smaller to: pixels a side, steps in time."""
AT_ONCE = 32


def raw_values(problem: Problem) -> Said:
    """Ridge regression on the inputs themselves, as the base's processor prepares them, made smaller."""
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    alphas = np.logspace(-2, 5, 8)
    values = problem.task.target_kind == "values"
    ridge = RidgeCV(alphas) if values else RidgeClassifierCV(alphas, class_weight=problem.balanced)
    x, new = _small(problem, problem.learn), _small(problem, problem.score)
    return fitted(problem, x, new, make_pipeline(StandardScaler(), ridge))


def _small(problem: Problem, data: Encoded) -> np.ndarray[Any, Any]:
    """The inputs as rows of few numbers: pixels averaged in squares; steps averaged in time, and each channel's range."""
    parts = []
    with problem.progress.bar("reading raw values", len(data.examples), "examples") as bar:
        for start in range(0, len(data.examples), AT_ONCE):
            examples = data.examples[start : start + AT_ONCE]
            inputs = problem.task.inputs(examples, problem.base)
            values = next(value for value in inputs.values() if value.is_floating_point()).float()
            parts.append(_averaged(values) if problem.task.modality == "image" else _through_time(values))
            bar.advance(len(examples))
    return torch.cat(parts).numpy()


def _averaged(pixels: Tensor) -> Tensor:
    """(batch, channels, height, width) as (batch, channels * SIDE * SIDE)."""
    side = min(SIDE, *pixels.shape[-2:])
    return functional.adaptive_avg_pool2d(pixels, side).flatten(1)


def _through_time(values: Tensor) -> Tensor:
    """(batch, steps, channels) as (batch, features): averages along time, and mean, spread, least, largest and last value."""
    by_channel = values.transpose(1, 2)  # (batch, channels, steps)
    averaged = functional.adaptive_avg_pool1d(by_channel, min(STEPS, by_channel.shape[-1]))
    spread = by_channel.std(dim=-1, correction=0)
    ends = [by_channel.mean(dim=-1), spread, by_channel.amin(dim=-1), by_channel.amax(dim=-1), by_channel[..., -1]]
    return torch.cat([averaged.flatten(1), *ends], dim=1)
