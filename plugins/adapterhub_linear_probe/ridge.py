"""Ridge regressions from sums over the rows, out of which a fold can be taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_linear_probe.rows import Block, Rows
from adapterhub_lite.api import FeatureProblem

Fit = tuple[Tensor, Tensor]
"""Weights (outputs, d) and biases (outputs,)."""


class Ridge:
    """Least squares for numbers, for +-1 of each label, or for +-1 of each class.

    The objective is the mean squared error + penalty * ||W||^2; biases are not penalised. Weights count as rows do, so
    that a row of weight 2 is two rows. Where each output has weights of its own, it is a regression of its own.
    """

    def __init__(self, rows: Rows, problem: FeatureProblem) -> None:
        """Read the rows: once, or once for each output that has weights of its own."""
        self.rows, self.kind, self.outputs = rows, problem.kind, problem.outputs
        apart = rows.weights is not None and rows.weights.dim() == 2
        self.sums = [self._sums(slice(i, i + 1)) for i in range(self.outputs)] if apart else [self._sums(slice(None))]

    def fits(self, held_out: int | None) -> Callable[[float], Fit]:
        """A function from a penalty to the fit of all rows, or of those that are not in a fold."""
        solvers = [_solver(sums.sum(dim=0) - (0 if held_out is None else sums[held_out])) for sums in self.sums]

        def fit(penalty: float) -> Fit:
            weights, biases = zip(*(solve(penalty) for solve in solvers), strict=True)
            return torch.cat(weights), torch.cat(biases)

        return fit

    def held_out_errors(self, fits: Sequence[Fit]) -> Tensor:
        """The (weighted) wrong decisions, or squared errors of numbers, of each row in the fit without its fold. (n,)"""
        errors = torch.zeros(len(self.rows.z), device=self.rows.z.device)
        for block in self.rows.blocks(self.outputs):
            if block.fold < len(fits):
                weight, bias = (part.to(block.z.device) for part in fits[block.fold])
                errors[block.rows] = self._errors(block, functional.linear(block.z, weight, bias))
        return errors.cpu()

    def _errors(self, block: Block, predicted: Tensor) -> Tensor:
        if self.kind == "classes":
            wrong = (predicted.argmax(dim=1) != block.y).float()
            return wrong if block.weights is None else wrong * block.weights
        errors = (predicted > 0) != (block.y > 0.5) if self.kind == "labels" else (predicted - block.y).pow(2)
        return (errors if block.weights is None else errors * block.weights).sum(dim=1, dtype=torch.float32)

    def _sums(self, part: slice) -> Tensor:
        """The (weighted) products of features and 1 with features, 1 and some targets: (folds, d + 1, d + 1 + targets)."""
        sums: list[Tensor | float] = [0.0] * len(self.rows.sizes)
        for block in self.rows.blocks(self.outputs):
            left = torch.cat([block.z.double(), torch.ones_like(block.z[:, :1], dtype=torch.float64)], dim=1)
            if self.kind == "classes":
                targets = functional.one_hot(block.y, self.outputs).double() * 2 - 1
            else:
                targets = block.y[:, part].double()
                targets = targets * 2 - 1 if self.kind == "labels" else targets
            right = torch.cat([left, targets], dim=1)
            if block.weights is not None:
                right = right * (block.weights if self.kind == "classes" else block.weights[:, part]).view(-1, 1)
            sums[block.fold] = sums[block.fold] + left.T @ right
        return torch.stack([torch.as_tensor(each) for each in sums]).cpu()


def _solver(sums: Tensor) -> Callable[[float], Fit]:
    """Fits for every penalty from one eigendecomposition of the covariance."""
    d = len(sums) - 1
    means = sums[d] / sums[d, d]  # (d + 1 + targets,), of features, 1 and targets
    centred = sums[:d] / sums[d, d] - means[:d, None] * means
    mean, offset = means[:d], means[d + 1 :]
    values, vectors = torch.linalg.eigh(centred[:, :d])  # (d,), (d, d)
    projected = vectors.T @ centred[:, d + 1 :]  # (d, targets)

    def solve(penalty: float) -> Fit:
        weight = (vectors @ (projected / (values.clamp(min=0) + penalty)[:, None])).T  # (targets, d)
        return weight.float(), (offset - weight @ mean).float()

    return solve
