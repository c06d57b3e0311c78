"""What a linear probe on frozen features says of each row when it has not learnt from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapterhub_lite.auditing.material import Side
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import FeatureProblem, Solver
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import StrategySpec
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Encoded, Task, encode
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.randomness import seeded
from adapterhub_lite.training.solve import find_solver

FOLDS = 5
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Learnt:
    """Features of the rows at hand, and what probes say of rows that they did not learn from."""

    features: Floats
    """(n, hidden_size) of the sampled rows of the data."""
    targets: Tensor
    """As the task makes them."""
    said: Floats
    """(n, outputs) probabilities, or numbers, each row by a probe that has not seen its fold."""
    folds: NDArray[np.int64]
    """(n,), rows of one group, and equal inputs, in one fold."""
    held_out: Floats | None
    """(m, hidden_size)"""
    held_out_said: Floats | None
    """(m, outputs), by a probe on all of the data."""
    fitting: Fitting

    def without(self, left_out: NDArray[np.bool_]) -> Floats:
        """What probes say that learnt from the same folds, but not from some of the rows: (n, outputs)."""
        return self.fitting.out_of_fold(torch.from_numpy(self.features), self.targets, self.folds, ~left_out)


class Fitting:
    """Fits probes for one task on one base.

    Args:
        attachment: Of the strategy that fits heads on frozen features, with the task's head.
        solver: That strategy.
        strategies: Configure it.
        seed: Of what is drawn.
    """

    def __init__(self, attachment: Attachment, solver: Solver, strategies: Shelf[StrategySpec], seed: int):
        self._attachment, self._solver, self._strategies, self._seed = attachment, solver, strategies, seed
        self.penalty: float | None = None

    def fit(self, features: Tensor, targets: Tensor) -> nn.Linear:
        """A head fitted to rows; the penalty is chosen with the first ones, and then kept."""
        attachment = self._attachment
        given = {} if self.penalty is None else {"penalty": self.penalty}
        options = self._strategies.configure(attachment.provided, given)
        head = attachment.task.head(attachment.base.map)
        assert head is not None
        problem = FeatureProblem(
            features, targets, attachment.task.outputs(attachment.base), head, self._seed, lambda share, note: None,
            attachment.task.target_kind, None, None, attachment.base.device,
        )  # fmt: skip
        with attachment.calls.into("solve"):
            report = self._solver.solve(attachment.view, options, {}, problem)
        self.penalty = report.get("penalty", self.penalty)
        return head

    def said(self, head: nn.Linear, features: Tensor) -> Floats:
        """Probabilities, or numbers: (n, outputs)."""
        with torch.no_grad():
            logits = head(features)
        kind = self._attachment.task.target_kind
        if kind == "classes":
            logits = logits.softmax(dim=-1)
        elif kind == "labels":
            logits = logits.sigmoid()
        return np.asarray(logits.numpy(), dtype=np.float32)

    def out_of_fold(
        self, features: Tensor, targets: Tensor, folds: NDArray[np.int64], used: NDArray[np.bool_] | None = None
    ) -> Floats:
        """What is said of each row by a probe that learnt from the other folds, of the rows that are used."""
        parts = torch.from_numpy(folds)
        said: Floats | None = None
        for fold in parts.unique().tolist():
            seen = parts != fold
            if used is not None:
                seen &= torch.from_numpy(used)
            told = self.said(self.fit(features[seen], targets[seen]), features[~(parts != fold)])
            said = np.zeros((len(features), told.shape[1]), dtype=np.float32) if said is None else said
            said[folds == fold] = told
        assert said is not None
        return said


@contextmanager
def learning(
    base: Base,
    task: Task,
    strategies: Shelf[StrategySpec],
    data: Side,
    held_out: Side | None,
    seed: int,
    progress: Progress,
) -> Iterator[Learnt]:
    """Encode the rows at hand, or take their features from the cache, and fit probes to them.

    Args:
        base: Any adapter on it is taken off first.
        task: Settled on the base and the data.
        strategies: One of them fits heads on frozen features.
        data: Rows to learn from.
        held_out: Rows to score on, if any.
        seed: Of folds.
        progress: Shows the work.

    Raises:
        NotSupportedError: a task without a head, or with several targets a row; all rows equal, or of one group.
        StrategyNotFoundError: no strategy fits heads.
        TrainingError: out of memory.
    """
    if not isinstance(task, HeadTask):
        raise NotSupportedError(f"{task.name} has no head to fit on features")
    provided, solver = find_solver(strategies)
    with base.lock, seeded(seed, base.device):
        base.activate(None)
        encoded = _encoded(task, data, base)
        scored = None if held_out is None else _encoded(task, held_out, base)
        features, targets = encode_features(base, task, encoded, progress)
        if targets is None or any(example.rows != 1 for example in encoded.examples):
            raise NotSupportedError(f"{task.name} has several targets in a row, of which features are not looked at")
        attachment = attach(base, task, provided, solver, strategies.configure(provided, {}))  # type: ignore[arg-type]
        try:
            fitting = Fitting(attachment, solver, strategies, seed)
            folds = folds_of(data, targets if task.target_kind == "classes" else None, seed)
            head = fitting.fit(features, targets)
            said = fitting.out_of_fold(features, targets, folds)
            new = None if scored is None else encode_features(base, task, scored, progress)[0]
            new_said = None if new is None else fitting.said(head, new)
            yield Learnt(
                features.numpy(), targets, said, folds, None if new is None else new.numpy(), new_said, fitting
            )
        finally:
            attachment.discard()


def _encoded(task: Task, side: Side, base: Base) -> Encoded:
    whole = len(side.sampled) == len(side)
    return encode(task, side.dataset if whole else side.dataset.select(side.sampled.tolist()), base)


def folds_of(data: Side, targets: Tensor | None, seed: int) -> NDArray[np.int64]:
    """A fold for each row at hand: groups and equal inputs whole, classes dealt out evenly. (n,)

    Raises:
        NotSupportedError: all rows are of one group, or equal.
    """
    units: Sequence[Any] = data.keys[data.sampled].tolist()
    if data.dataset.groups is not None:
        units = [data.dataset.groups[row] for row in data.sampled.tolist()]
    unit_of = np.asarray(numbered(units))
    first = np.unique(unit_of, return_index=True)[1]
    random = np.random.default_rng(seed)
    order = random.permutation(len(first))
    if targets is not None:
        order = order[np.argsort(targets.numpy()[first][order], kind="stable")]
    if len(first) < 2:
        what = "equal" if data.dataset.groups is None else "of one group"
        raise NotSupportedError(f"all rows are {what}, so that no probe can be asked of rows that it has not seen")
    fold_of_unit = np.empty(len(first), dtype=np.int64)
    fold_of_unit[order] = np.arange(len(first)) % min(FOLDS, len(first))
    return np.asarray(fold_of_unit[unit_of])
