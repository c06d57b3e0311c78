"""Logistic regressions on the same rows, one for each fold that is held out, fitted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_linear_probe.descent import Descent
from adapterhub_linear_probe.rows import Block, Rows

ROWS_FOR_CURVATURE = 4096
# Cross-validation only ranks penalties, and needs no more than this; the last fit runs to convergence.
SEARCH_TOLERANCE, FIT_TOLERANCE = 1e-3, 1e-7
SEARCH_ROUNDS, FIT_ROUNDS = 100, 500


class Regressions:
    """Fits of several subsets of the rows that share each pass over the features.

    The objective of a fit is the mean over its rows of their (weighted) cross-entropy, labels added up, + penalty / 2 *
    ||W||^2; biases are not penalised. Fits are kept between calls: each starts from the one before, and from what that
    learnt of the curvature. A point is (outputs, d + 1), the bias last, and is flat where it is a vector to descend.
    """

    def __init__(self, rows: Rows, outputs: int, several: bool, held_out: Sequence[int | None]) -> None:
        """Begin at zero.

        Args:
            rows: All of them.
            outputs: Classes or labels.
            several: Any of several labels, each a regression of its own, instead of one of several classes.
            held_out: For each fit the fold that it does not see; None for one of all rows.
        """
        self.rows, self.outputs, self.several, self.held_out = rows, outputs, several, held_out
        size = outputs * (rows.z.shape[1] + 1)
        self.descents = [Descent(torch.zeros(size, device=rows.z.device)) for _ in held_out]
        self.penalty = 0.0
        self.counts = [len(rows.z) - (rows.sizes[fold] if fold is not None else 0) for fold in held_out]

    def start(self, point: Tensor) -> None:
        """Let all fits begin at a point (outputs, d + 1)."""
        self.descents = [Descent(point.flatten()) for _ in self.held_out]

    def fit(self, penalty: float, tolerance: float, rounds: int) -> None:
        """Move all fits to the minimum for a penalty, in at most so many passes over the features."""
        penalties = self._per_weight(penalty)
        values = self._evaluate(range(len(self.descents)), penalties)
        for fit, descent in enumerate(self.descents):
            descent.penalise(penalties - self._per_weight(self.penalty))
            scaling = 1 / (self._curvature(fit) + penalties)
            descent.start(*values[fit], scaling, tolerance)
        self.penalty = penalty
        for _ in range(rounds):
            moving = [fit for fit, descent in enumerate(self.descents) if not descent.done]
            if not moving:
                break
            for fit, (value, gradient) in self._evaluate(moving, penalties).items():
                self.descents[fit].tell(value, gradient)

    def points(self) -> Tensor:
        """Where the fits are: (fits, outputs, d + 1)."""
        return torch.stack([descent.at for descent in self.descents]).view(len(self.descents), self.outputs, -1)

    def held_out_losses(self) -> Tensor:
        """The (weighted) cross-entropy of each row in the fit that has not seen it, zero for rows that all saw. (n,)"""
        losses = torch.zeros(len(self.rows.z), device=self.rows.z.device)
        points = {fold: point for fold, point in zip(self.held_out, self.points(), strict=True) if fold is not None}
        for block in self.rows.blocks(self.outputs):
            if block.fold in points:
                losses[block.rows] = self._losses(block, _logits(block.z, points[block.fold][None]))[0][:, 0]
        return losses.cpu()

    def _per_weight(self, penalty: float) -> Tensor:
        """The penalty of each entry of a point, flat."""
        penalties = torch.full((self.outputs, self.rows.z.shape[1] + 1), penalty, device=self.rows.z.device)
        penalties[:, -1] = 0
        return penalties.flatten()

    def _evaluate(self, fits: Sequence[int], penalties: Tensor) -> Mapping[int, tuple[float, Tensor]]:
        """Objective and gradient of some of the fits at the points they ask for, in one pass."""
        points = torch.stack([self.descents[fit].point for fit in fits]).view(len(fits), self.outputs, -1)
        gradients = torch.zeros_like(points)
        sums: list[Tensor] = []
        for block in self.rows.blocks(len(fits) * self.outputs):
            seen = [place for place, fit in enumerate(fits) if self.held_out[fit] != block.fold]
            if not seen:
                continue
            some = points if len(seen) == len(fits) else points[seen]
            losses, errors = self._losses(block, _logits(block.z, some))
            sums.append(
                torch.zeros(len(fits), device=losses.device).index_copy_(0, _at(seen, losses), losses.sum(dim=0))
            )
            flat = errors.flatten(1)
            gradient = torch.cat([flat.T @ block.z, flat.sum(dim=0)[:, None]], dim=1)
            gradients.index_add_(0, _at(seen, losses), gradient.view(len(seen), self.outputs, -1))
        totals = torch.stack(sums).cpu().double().sum(dim=0).tolist()
        results: dict[int, tuple[float, Tensor]] = {}
        for place, fit in enumerate(fits):
            point, count = points[place].flatten(), self.counts[fit]
            value = totals[place] / count + float((penalties * point).dot(point)) / 2
            results[fit] = value, gradients[place].flatten() / count + penalties * point
        return results

    def _losses(self, block: Block, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each row in each fit (m, fits), and its gradient with respect to the logits (m, fits, outputs)."""
        if self.several:
            targets = block.y[:, None].expand_as(logits)
            losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            errors = torch.sigmoid(logits) - targets
            if block.weights is not None:
                losses, errors = losses * block.weights[:, None], errors * block.weights[:, None]
            return losses.sum(dim=2), errors
        log_shares = torch.log_softmax(logits, dim=2)
        targets = block.y[:, None, None].expand(-1, logits.shape[1], 1)
        losses = -log_shares.gather(2, targets)[:, :, 0]
        errors = log_shares.exp_().scatter_add_(2, targets, -torch.ones_like(losses)[:, :, None])
        if block.weights is not None:
            losses, errors = losses * block.weights[:, None], errors.mul_(block.weights[:, None, None])
        return losses, errors

    def _curvature(self, fit: int) -> Tensor:
        """The diagonal of the Hessian at the fit's point, without the penalty, roughly: flat.

        The mean of p (1 - p) over some rows, times the variance of each feature, which principal axes make nearly true.
        """
        rows, held = self.rows, self.held_out[fit]
        start = sum(rows.sizes[:held]) if held is not None else 0
        seen = torch.ones(len(rows.z), dtype=torch.bool)
        if held is not None:
            seen[start : start + rows.sizes[held]] = False
        some = seen.nonzero()[:: -(-self.counts[fit] // ROWS_FOR_CURVATURE), 0].to(rows.z.device)
        total = torch.zeros(self.outputs, device=rows.z.device)
        point = self.descents[fit].at.view(1, self.outputs, -1)
        for part in some.split(max(128, 2**20 // self.outputs)):
            logits = _logits(rows.z[part], point)[:, 0]
            shares = torch.sigmoid(logits) if self.several else torch.softmax(logits, dim=1)
            bends = shares * (1 - shares)
            if rows.weights is not None:
                bends *= rows.weights[part] if self.several else rows.weights[part][:, None]
            total += bends.sum(dim=0)
        mean = (total / len(some)).clamp(min=1e-6)[:, None]
        return torch.cat([mean * rows.variances, mean], dim=1).flatten()


def _logits(z: Tensor, points: Tensor) -> Tensor:
    """(m, fits, outputs) of rows (m, d) in fits (fits, outputs, d + 1)."""
    flat = points.flatten(0, 1)
    return torch.addmm(flat[:, -1], z, flat[:, :-1].T).view(len(z), len(points), -1)


def _at(places: list[int], like: Tensor) -> Tensor:
    return torch.tensor(places, device=like.device)
