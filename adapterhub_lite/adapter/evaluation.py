"""Scores of what a language model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from adapterhub_lite.adapter.generate import Ready, generate_texts
from adapterhub_lite.adapter.inputs import prompts_of
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.evaluation.result import BARE, Evaluation
from adapterhub_lite.progress import Progress
from adapterhub_lite.scoring.metrics import bootstrap, share_interval
from adapterhub_lite.tasks.task import Batch, Task, encode
from adapterhub_lite.training.evaluate import score_language_model

Judge = Callable[[Sequence[str]], Mapping[str, Sequence[float]]]
"""From the answers to all rows to the scores of each, by name."""


def evaluate_answers(
    task: Task,
    base: Base,
    data: Dataset,
    judge: Judge,
    sampling: Sampling,
    run: Callable[[Batch], Tensor],
    ready: Ready,
    progress: Progress,
) -> Evaluation:
    """Score what is on a base on prompts with answers: its loss on these, and its own answers beside them.

    Args:
        task: Makes prompts and batches.
        base: Answers, with whatever `run` and `ready` mount on it.
        data: Prompts with the answers that are wanted.
        judge: Scores answers; their mean over the rows has a 95 % interval, Wilson's for a share, else a bootstrap over rows.
        sampling: How answers are made.
        run: From a batch to the loss of every target, (n,).
        ready: Called around every batch of prompts.
        progress: Shows the work.
    """
    ids, where = prompts_of(task, base, data)
    scores = judge(
        generate_texts(base, ids, sampling, ends=task.end_ids(base), ready=ready, where=where, progress=progress)
    )
    encoded = encode(task, data, base)
    metrics, intervals = score_language_model(base, task, run, encoded, progress, intervals=True)
    groups = None if data.groups is None else numbered(data.groups)
    for name, values in scores.items():
        each = torch.tensor(values, dtype=torch.float64)
        metrics[name] = float(each.mean())
        if bool(((each == 0) | (each == 1)).all()):
            intervals[name] = share_interval(each == 1, groups)
        else:
            intervals[name] = bootstrap(len(each), partial(_mean, each), groups)
    return Evaluation(len(data), metrics, (*data.notes, *encoded.notes), intervals)


def evaluate_bare(base: Base, task: Task, data: Dataset, progress: Progress) -> Evaluation:
    """The scores of a bare language model."""
    with base.lock:
        encoded = encode(task, data, base)
        base.activate(None)
        metrics, intervals = score_language_model(
            base, task, partial(task.target_losses, base, None), encoded, progress, intervals=True
        )
    return Evaluation(len(encoded.examples), metrics, encoded.notes, intervals)


def beside(own: Evaluation, bare: Evaluation) -> Evaluation:
    """The scores of an adapter, and with other names those of its bare base."""
    metrics = {**own.metrics, **{BARE + name: value for name, value in bare.metrics.items()}}
    intervals = {**own.intervals, **{BARE + name: ends for name, ends in bare.intervals.items()}}
    return Evaluation(own.n, metrics, own.notes, intervals)


def _mean(values: Tensor, rows: Tensor) -> float:
    return float(values[rows].mean())
