"""A start at the directions of the first gradient (LoRA-GA, Wang et al. 2024, arXiv:2407.05000)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from torch import Tensor

from adapterhub_lite.api import TrainingBatch
from adapterhub_lora import LoraConfig
from adapterhub_lora.scales import rank_at, scale_at

ITERATIONS = 4
"""Of the subspace iteration that finds the directions."""


def lora_ga(
    weights: Mapping[str, Tensor], config: LoraConfig, batches: Iterable[TrainingBatch]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors A and B of each layer, by its path: right and left singular vectors of the gradient of the mean loss.

    Args:
        weights: (out_features, in_features) of each layer, by its path.
        config: Rank, scale and which directions.
        batches: Those of the run.
    """
    gradients = _mean_gradients(list(weights), islice(batches, config.start_batches))
    return {path: _factors(weight, gradients[path], config, path) for path, weight in weights.items()}


def _mean_gradients(paths: list[str], batches: Iterable[TrainingBatch]) -> dict[str, Tensor]:
    """The gradient of the mean loss over all targets, (out_features, in_features) by path."""
    sums: dict[str, Tensor] = {}
    weight = 0.0
    for batch in batches:
        for path, gradient in batch.gradients(paths).items():
            sums[path] = sums.get(path, 0.0) + batch.weight * gradient
        weight += batch.weight
    return {path: total / weight for path, total in sums.items()}


def _factors(weight: Tensor, gradient: Tensor, config: LoraConfig, path: str) -> tuple[Tensor, Tensor]:
    rank, scale = rank_at(config, path), scale_at(config, path)
    u, s, v = torch.svd_lowrank(gradient, q=min(4 * rank, *gradient.shape), niter=ITERATIONS)
    of_a, of_b = _directions(rank, config.lora_ga_direction)
    a, values = v.T[of_a], s[of_b]
    b = u[:, of_b] * values
    if config.lora_ga_scale == "stable":
        b = b * (len(weight) ** 0.25 / config.lora_ga_gamma**0.5)
    elif config.lora_ga_scale == "weight_svd":
        largest = torch.svd_lowrank(weight, q=rank, niter=ITERATIONS)[1][0]
        b = b * (largest / values[0]) if values[0] > 0 else b
    elif config.lora_ga_scale == "gd_scale":
        a, b = a / scale, b / scale
    return a, b


def _directions(rank: int, kind: str) -> tuple[Tensor, Tensor]:
    """Which of the first 2 rank directions go into A, and which into B."""
    first, second, all_of_them = torch.arange(rank), torch.arange(rank, 2 * rank), torch.arange(2 * rank)
    if kind == "random":
        drawn = torch.randperm(2 * rank)[:rank]
        return drawn, drawn
    return {"ArBr": (all_of_them[1::2], all_of_them[::2]), "A2rBr": (second, first), "ArB2r": (first, second)}[kind]
