"""A start at the directions of the weights on the inputs they are given (CorDA, Yang et al. 2024, arXiv:2406.05223)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from torch import Tensor

from adapterhub_lite.api import NotSupportedError, TrainingBatch
from adapterhub_lora import LoraConfig
from adapterhub_lora.scales import rank_at, scale_at
from adapterhub_lora.seen import by_example

DAMPING = 0.01
"""What is added to the diagonal of a covariance, as a share of its mean; doubled until the inverse is one."""
INVERSE_ERROR = 0.05
DOUBLINGS = 40


def corda(
    weights: Mapping[str, Tensor], config: LoraConfig, batches: Iterable[TrainingBatch]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors A and B of each layer, by its path.

    With C the covariance of a layer's inputs and W C = U S V', they are the directions with the largest singular values
    (or, for kpm, the smallest), V' C^-1 in A and U in B, S halved between them.

    Args:
        weights: (out_features, in_features) of each layer, by its path.
        config: Rank, scale and method.
        batches: Those of the run.

    Raises:
        NotSupportedError: a layer whose inputs have no covariance that can be inverted.
    """
    start = {}
    for path, covariance in _covariances(list(weights), islice(batches, config.start_batches)).items():
        damped, inverse = _inverse(path, covariance)
        u, s, v = torch.linalg.svd(weights[path] @ damped, full_matrices=False)
        rank = rank_at(config, path)
        kept = slice(None, rank) if config.corda_method == "ipm" else slice(-rank, None)
        root = (s[kept] / scale_at(config, path)).sqrt()
        start[path] = root[:, None] * (v @ inverse)[kept], u[:, kept] * root
    return start


def _covariances(paths: list[str], batches: Iterable[TrainingBatch]) -> dict[str, Tensor]:
    """The mean over examples of X' X, (in_features, in_features), each X divided by its largest entry."""
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        for path, inputs in batch.layer_inputs(paths).items():
            examples = by_example(batch, inputs)
            count += len(examples) if path == paths[0] else 0
            for tokens in examples:  # (tokens, in_features)
                scaled = tokens.float() / tokens.float().max().abs()
                product = scaled.T @ scaled
                if not torch.isfinite(product).all():
                    raise NotSupportedError(
                        f"lora: init=corda divides the inputs of '{path}' by the largest of them, which is 0 or not "
                        "finite in an example; use another init, or other targets"
                    )
                sums[path] = sums[path] + product if path in sums else product
    return {path: total / count for path, total in sums.items()}


def _inverse(path: str, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """A covariance damped until it has an inverse, and that."""
    identity, mean = torch.eye(len(covariance), device=covariance.device), covariance.diag().mean()
    for doubling in range(DOUBLINGS):
        damped = covariance + identity * mean * DAMPING * 2**doubling
        inverse, failed = torch.linalg.inv_ex(damped)
        if not failed and float(torch.dist(damped @ inverse, identity)) < INVERSE_ERROR:
            return damped, inverse
    raise NotSupportedError(
        f"lora: init=corda cannot invert the covariance of the inputs of '{path}'; use another init, or other targets"
    )
