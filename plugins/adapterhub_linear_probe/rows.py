"""Features made ready for a solver: standardised, turned onto their principal axes, the rows of a fold side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterhub_lite.api import DataError, FeatureProblem

AXES = 1024
"""Wider features are not turned: the eigenvectors would take longer than they save."""
AT_ONCE = 2048
"""Rows that are copied, or go through a solver, at once; fewer where the outputs are many."""
OUTPUTS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Axes:
    """How features were changed: z = (x - mean) @ turn, where turn divides by their overall spread as well.

    Dividing by one number keeps the directions' proportions, and lets a penalty mean the same for every base.
    """

    mean: Tensor  # (d,)
    turn: Tensor | float  # (d, d), or one number
    variances: Tensor  # (d,), of z

    @classmethod
    def of(cls, features: Tensor) -> Axes:
        """Those of features (n, d), read twice.

        Raises:
            DataError: features that are not finite.
        """
        mean = features.mean(dim=0)
        if not torch.isfinite(mean).all():
            raise DataError("the base's features are not finite; compute in --dtype float32")
        n, d = features.shape
        if d > AXES:
            squares = sum(((part - mean) ** 2).sum(dim=0) for part in features.split(AT_ONCE))
            variances = torch.as_tensor(squares) / n
            spread = float(variances.mean().sqrt().clamp(min=1e-12))
            return cls(mean, 1 / spread, variances / spread**2)
        covariance = torch.zeros(d, d, dtype=torch.float64)
        for part in features.split(AT_ONCE):
            centred = part - mean
            covariance += centred.T @ centred
        values, vectors = torch.linalg.eigh(covariance / n)
        spread = float(values.clamp(min=0).mean().sqrt().clamp(min=1e-12))
        return cls(mean, (vectors / spread).float(), (values.clamp(min=0) / spread**2).float())

    def change(self, x: Tensor) -> Tensor:
        """Features (m, d) on these axes."""
        centred = x - self.mean
        return centred @ self.turn if isinstance(self.turn, Tensor) else centred * self.turn

    def unchange(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (outputs, d) and biases (outputs,) that do with x what the given ones do with z."""
        weight = weight @ self.turn.T if isinstance(self.turn, Tensor) else weight * self.turn
        return weight, bias - weight @ self.mean


@dataclass(frozen=True)
class Block:
    """Some rows of one fold."""

    fold: int
    rows: slice
    z: Tensor  # (m, d)
    y: Tensor  # as in FeatureProblem
    weights: Tensor | None


@dataclass(frozen=True)
class Rows:
    """All rows with what they should predict, on the device that computes."""

    z: Tensor  # (n, d) float32
    y: Tensor  # as in FeatureProblem
    weights: Tensor | None
    variances: Tensor  # (d,), of z
    sizes: list[int]
    """Rows of each fold; they follow one another."""
    order: Tensor  # (n,), which row of the problem each of these is

    @classmethod
    def of(cls, problem: FeatureProblem, axes: Axes, fold_of: Tensor) -> Rows:
        """The rows of a problem, in a copy; of what is as large, only `problem.features` is held beside it."""
        order = fold_of.argsort(stable=True)
        device = _roomy(problem)
        z = torch.empty(problem.features.shape, device=device)
        for part, rows in zip(z.split(AT_ONCE), order.split(AT_ONCE), strict=True):
            part.copy_(axes.change(problem.features[rows]))
        weights = problem.weights[order].to(device) if problem.weights is not None else None
        sizes = fold_of.bincount().tolist()
        return cls(z, problem.targets[order].to(device), weights, axes.variances.to(device), sizes, order)

    def blocks(self, outputs: int) -> Iterator[Block]:
        """Blocks of one fold each, so small that (rows, outputs) numbers fit into a cache, and always into memory."""
        at_once = max(128, min(AT_ONCE, OUTPUTS_AT_ONCE // outputs))
        start = 0
        for fold, size in enumerate(self.sizes):
            for first in range(start, start + size, at_once):
                rows = slice(first, min(first + at_once, start + size))
                weights = self.weights[rows] if self.weights is not None else None
                yield Block(fold, rows, self.z[rows], self.y[rows], weights)
            start += size


def _roomy(problem: FeatureProblem) -> torch.device:
    """The problem's device, if the rows take no more than half of what is free on it; else the CPU."""
    device = torch.device(problem.device)
    if device.type != "cuda":
        return torch.device("cpu")
    size = sum(part.nbytes for part in (problem.features, problem.targets, problem.weights) if part is not None)
    return device if 2 * size < torch.cuda.mem_get_info(device)[0] else torch.device("cpu")
