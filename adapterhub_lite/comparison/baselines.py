"""Models without a base, which an adapter has to beat. The simplest: the commonest answer, whatever the input is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Encoded

SURE = 1e-6
"""The least probability that is told apart from none."""


@dataclass(frozen=True)
class Problem:
    """What a baseline learns from and is scored on."""

    task: HeadTask
    base: Base
    """For its tokenizer or processor: its weights are not used."""
    learn: Encoded
    score: Encoded
    texts: tuple[Sequence[Any], Sequence[Any]]
    """The inputs of both as they were read."""
    seed: int
    progress: Progress

    @property
    def targets(self) -> Tensor:
        """What is to be learnt, as the task makes it."""
        return self.task.targets(self.learn.examples)

    @property
    def balanced(self) -> str | None:
        """How scikit-learn is told to weigh the classes."""
        return "balanced" if self.task.preprocessing.options.get("class_weights") == "balanced" else None


Said = tuple[Tensor, int]
"""Outputs for the rows that are scored, as the task's head gives them, and how many weights were fitted."""
Fit = Callable[[Problem], Said]


def commonest(problem: Problem) -> Said:
    """How often each class comes, or the mean of the numbers, whatever the input is."""
    targets, kind = problem.targets, problem.task.target_kind
    if kind == "classes":
        counts = torch.bincount(targets, minlength=problem.task.output_size).double()
        row = (counts / counts.sum()).clamp(min=SURE).log()
    elif kind == "labels":
        row = torch.logit(targets.double().mean(dim=0), eps=SURE)
    else:
        row = targets.double().mean(dim=0)
    rows = sum(example.rows for example in problem.score.examples)
    return row.float().expand(rows, -1).clone(), row.numel()


def missing_package() -> str | None:
    """Why baselines other than the commonest answer cannot be fitted here; None where they can."""
    if find_spec("sklearn") is not None:
        return None
    return "needs scikit-learn; pip install 'adapterhub-lite[sklearn]'"
