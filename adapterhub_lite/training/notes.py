"""What a person should know at the end of a run: each note says what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.scoring.metrics import bootstrap
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.state import TrainReport

FEWEST_STEPS = 8
FALLING, LEARNT = 0.1, 0.05
"""Still falling: by this share from one quarter of the run to the last. Learnt: of what the loss began with, no more is left."""
ZERO, ROSE = 0.02, 1.1
"""By heart: the share of its beginning that the training loss is down to, and how many times its least the held-out loss is."""
FEWEST_OF_CLASS = 3
"""Rows of a class of which not one is predicted; fewer may be missed by chance."""
NO_MATTER = 0.02
"""An advantage that is no reason to wait for."""
WIDE = 0.03
"""Differences of scores that a person would like to see."""


def notes_of_losses(report: TrainReport, config: TrainConfig) -> list[str]:
    """Notes on how the loss went: it was still falling, or it reached zero while that of the held-out rows rose."""
    losses, notes = report.losses, list[str]()
    if len(losses) < FEWEST_STEPS:
        return notes
    quarter = len(losses) // 4
    first, before, last = (
        fmean(part) for part in (losses[:quarter], losses[-2 * quarter : -quarter], losses[-quarter:])
    )
    noise = 2 * (stdev(losses[-quarter:]) / quarter**0.5) if quarter > 1 else 0.0
    held_out = [(step, metrics["loss"]) for step, metrics in report.evaluations if "loss" in metrics]
    least = min(held_out, key=lambda one: one[1], default=None)
    rose = least is not None and held_out[-1][1] > ROSE * least[1]
    if (
        before - last > max(FALLING * before, noise)
        and last > LEARNT * first
        and not rose
        and report.state.stopped is None
    ):
        more = f"--steps {2 * config.steps}" if config.steps else f"--epochs {2 * (config.epochs or 1):g}"
        notes.append(
            f"the loss was still falling when the run ended ({before:.3g} to {last:.3g} over its last half); train longer, "
            f"with {more}, or faster, with a higher --lr"
        )
    if rose and least is not None and last < ZERO * first:
        fewer = "--steps" if config.steps else "--epochs"
        notes.append(
            f"the loss reached {last:.2g} while that of the held-out rows rose from {least[1]:.3g} (step {least[0]}) to "
            f"{held_out[-1][1]:.3g}: rows are learnt by heart; fewer {fewer}, a lower --lr or more rows help"
        )
    return notes


def note_of_classes(logits: Tensor, targets: Tensor, labels: Sequence[str]) -> list[str]:
    """A note where classes of the held-out rows are never predicted; logits are (n, classes), targets (n,)."""
    said = torch.bincount(logits.argmax(dim=1), minlength=len(labels)).tolist()
    true = torch.bincount(targets, minlength=len(labels)).tolist()
    missed = [number for number in range(len(labels)) if true[number] >= FEWEST_OF_CLASS and not said[number]]
    if not missed:
        return []
    named = ", ".join(f"'{labels[number]}' ({counted(true[number], 'row')})" for number in missed[:5])
    others = f" and {len(missed) - 5} more" if len(missed) > 5 else ""
    return [
        f"never predicted on the held-out rows: {named}{others}; --class-weights balanced lets rare classes count more"
    ]


def note_of_probe(own: Tensor, probe: Tensor, targets: Tensor, groups: Sequence[int] | None) -> list[str]:
    """A note where the linear probe would have been as good on the same held-out rows.

    Args:
        own: Outputs of the adapter, (n, classes), or (n, 1) where numbers are predicted.
        probe: Those of the probe.
        targets: (n,) classes, or (n, 1) numbers.
        groups: The group of each row; the interval is then for new groups.
    """
    if targets.is_floating_point():
        scale = float(targets.double().var().clamp(min=1e-12))
        gain = ((probe - targets).double().pow(2) - (own - targets).double().pow(2)).flatten() / scale
        what = "R²"
    else:
        gain = (own.argmax(dim=1) == targets).double() - (probe.argmax(dim=1) == targets).double()
        what = "accuracy"
    mean = float(gain.mean())
    low, high = bootstrap(len(gain), lambda rows: float(gain[rows].mean()), groups)
    if mean > 0 and (low > 0 or high > NO_MATTER):
        return []
    difference = (
        f"this adapter is {mean:+.3f} ahead of it in {what} on the held-out rows (95 % {low:+.3f} to {high:+.3f})"
    )
    if not gain.any():
        difference = "both are as good on each of the held-out rows"
    return [
        f"the linear probe would have been as good: {difference}; --strategy linear_probe takes a fraction of the time"
    ]


def note_of_size(metrics: Mapping[str, Any], metric: str) -> list[str]:
    """A note where the held-out rows are too few to tell two strategies apart.

    Two that are right on rows that correlate by a half differ by the half-width of the interval of one before it is no chance.
    """
    low, high = metrics.get(f"{metric}_low"), metrics.get(f"{metric}_high")
    if low is None or high is None:
        return []
    least, scale = (high - low) / 2, 1.0 if metric not in ("rmse", "mae", "loss") else abs(metrics[metric]) or 1.0
    if least <= WIDE * scale:
        return []
    return [
        f"{counted(int(metrics['n']), 'held-out row')} cannot tell two strategies apart whose {metric} differs by less than "
        f"{least:.2g}; hold out more with --hold-out, or score on more rows with --eval-data"
    ]
