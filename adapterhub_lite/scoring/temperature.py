"""One number by which logits are divided, so that probabilities are as sure as they are right.

Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2. The log loss is convex in the inverse of the temperature. As in
Platt 1999, targets are not quite 0 and 1: where every row is right, the likeliest temperature would be 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterhub_lite.scoring.folds import FOLDS, folds_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ENOUGH = 20_000
"""Rows from which one number is found as well as from more."""
LARGEST = 20.0
"""Largest temperature; the smallest is its inverse."""


@dataclass(frozen=True)
class Temperature:
    """A temperature, and what it is worth."""

    value: float
    rows: int
    """Held-out rows that it was found on."""
    loss_before: float
    """Their log loss at temperature 1, in nats."""
    loss_after: float
    """Their log loss at temperatures that were found on the other parts of them."""


def find_temperature(logits: Floats, targets: Ints, groups: Sequence[int] | None = None) -> Temperature | None:
    """The temperature of held-out rows, where it improves the log loss of rows that it is not found on; else None.

    Args:
        logits: (n, classes), of which the softmax is taken; or (n, labels), each by itself.
        targets: (n,) classes; or (n, labels), 0 or 1.
        groups: The group of each row; rows of one are not independent.
    """
    if len(logits) > ENOUGH:
        chosen = np.linspace(0, len(logits) - 1, ENOUGH).astype(np.int64)
        logits, targets = logits[chosen], targets[chosen]
        groups = None if groups is None else [groups[row] for row in chosen]
    parts = folds_of(len(logits), groups)
    if parts is None:
        return None
    logits = logits.astype(np.float64)
    losses = np.empty(len(logits))
    for part in range(FOLDS):
        own = parts == part
        losses[own] = log_losses(logits[own] * fit_inverse(logits[~own], targets[~own]), targets[own])
    before, after = float(log_losses(logits, targets).mean()), float(losses.mean())
    if not after < before:
        return None
    return Temperature(1 / fit_inverse(logits, targets), len(logits), before, after)


def fit_inverse(logits: Floats, targets: Ints) -> float:
    """The inverse of the temperature with the least log loss, by Newton's method kept between two bounds."""
    smooth = 1 / (len(logits) + 2)
    if targets.ndim == 1:
        others = logits.shape[1] - 1
        own = logits[np.arange(len(logits)), targets]
        wanted = (1 - smooth) * own + smooth * (logits.sum(axis=1) - own) / others
    else:
        wanted = np.where(targets > 0, 1 - smooth, smooth) * logits
    low, high, inverse = 1 / LARGEST, LARGEST, 1.0
    for _ in range(60):
        if targets.ndim == 1:
            p = probabilities(logits * inverse)
            mean = (p * logits).sum(axis=1)
            slope, curve = float((mean - wanted).mean()), float(((p * logits**2).sum(axis=1) - mean**2).mean())
        else:
            p = 1 / (1 + np.exp(-logits * inverse))
            slope, curve = float((p * logits - wanted).mean()), float((p * (1 - p) * logits**2).mean())
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curve if curve > 0 else (low + high) / 2
        step = step if low < step < high else (low + high) / 2
        if abs(step - inverse) < 1e-10 * inverse:
            break
        inverse = step
    return inverse


def log_losses(logits: Floats, targets: Ints) -> Floats:
    """The log loss of each row, in nats; of several labels the mean over them."""
    if targets.ndim == 1:
        shifted = logits - logits.max(axis=1, keepdims=True)
        own = shifted[np.arange(len(logits)), targets]
        return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - own)
    return np.asarray((np.logaddexp(0, logits) - targets * logits).mean(axis=1))


def probabilities(logits: Floats) -> Floats:
    """The softmax of each row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
