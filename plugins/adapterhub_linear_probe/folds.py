"""Which rows are held out together in a cross-validation."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterhub_lite.api import FeatureProblem

ENOUGH_HELD_OUT = 50_000
"""With this many rows held out the ranking of penalties is sure: of very large data not every fold is."""


def fold_of_rows(problem: FeatureProblem, folds: int) -> tuple[Tensor, int]:
    """Stratified folds, or folds of whole groups.

    Returns:
        The fold of each row (n,), counted from 0 without gaps, and how many of the folds, the first ones, are held out;
        0 where there is nothing to hold out.
    """
    if problem.groups is None:
        fold_of = _folds(_order(problem), folds, problem.seed)
    else:
        fold_of = _folds_of_groups(problem.groups, folds, problem.seed)
    filled, fold_of = fold_of.unique(return_inverse=True)
    if len(filled) < 2:
        return fold_of, 0
    if problem.groups is not None:  # rows of a group say the same thing, so that many rows prove little
        return fold_of, len(filled)
    return fold_of, min(len(filled), -(-ENOUGH_HELD_OUT * len(filled) // len(fold_of)))


def _order(problem: FeatureProblem) -> Tensor:
    """What rows are sorted by before they are dealt out to folds: the class, the rarest label, or the number. (n,)"""
    if problem.kind == "classes":
        return problem.targets
    if problem.kind == "values":
        return problem.targets[:, 0]
    rarity = problem.targets.sum(dim=0).argsort().argsort()  # (labels,), 0 for the rarest
    ranks = torch.where(problem.targets > 0.5, rarity, len(rarity))
    return ranks.min(dim=1).values


def _folds(targets: Tensor, folds: int, seed: int) -> Tensor:
    """A fold for each row, every class dealt out evenly. Shape (n,)."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    fold_of = torch.empty(len(targets), dtype=torch.long)
    fold_of[by_class] = torch.arange(len(targets)) % folds
    return fold_of


def _folds_of_groups(groups: Tensor, folds: int, seed: int) -> Tensor:
    """A fold for each row, the groups kept whole: in random order, each into the fold that is smallest so far. (n,)"""
    generator = torch.Generator().manual_seed(seed)
    _, group_of, sizes = groups.unique(return_inverse=True, return_counts=True)
    filled, chosen = [0] * folds, [0] * len(sizes)
    for group in torch.randperm(len(sizes), generator=generator).tolist():
        chosen[group] = filled.index(min(filled))
        filled[chosen[group]] += int(sizes[group])
    return torch.tensor(chosen)[group_of]
