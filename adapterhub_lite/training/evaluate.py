"""Running an adapter over a dataset without learning: logits, and scores from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from adapterhub_lite.base.heap import kept_heap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.data.batches import longest_first
from adapterhub_lite.errors import DataError
from adapterhub_lite.progress import Bar, Progress
from adapterhub_lite.scoring.metrics import bootstrap
from adapterhub_lite.tasks.task import Batch, Encoded, Task
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.flat import flattened
from adapterhub_lite.training.out_of_memory import in_batches
from adapterhub_lite.training.processes import Processes

EXAMPLES_AT_ONCE = 32
TEXTS_AT_ONCE = 8

Kept = TypeVar("Kept")
Ran = TypeVar("Ran")


def predict_logits(attachment: Attachment, data: Encoded, progress: Progress, *, keep_features: bool = False) -> Tensor:
    """Outputs of the head, (n, outputs) fp32 on the CPU: `Example.rows` of them for each example, in their order.

    With `keep_features` the features that a linear probe reads are taken from the cache, and left there.

    Raises:
        DataError: outputs that are not finite, of which nothing can be said; names the first input.
    """
    logits = outputs(attachment, data, progress, keep_features=keep_features)[0]
    broken = (~(logits < math.inf)).any(dim=1).nonzero()
    if len(broken):
        number = [place for place, example in enumerate(data.examples) for _ in range(example.rows)][int(broken[0])]
        row = data.rows[number] if data.rows is not None else number
        raise DataError(
            f"input {row + 1}: the model's outputs for it are not finite; correct its values, or compute in --dtype float32"
        )
    return logits


def score(
    attachment: Attachment,
    data: Encoded,
    progress: Progress,
    processes: Processes | None = None,
    *,
    intervals: bool = False,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The task's metrics on labelled examples, and 95 % confidence intervals of some of them.

    `processes` share the examples between them, and each gets the scores of the whole. Without `intervals` there are none:
    they may take longer than the scores where rows have groups.

    Raises:
        DataError: when there are no examples, or no labels.
    """
    if not data.examples:
        raise DataError("there is nothing to evaluate: the data has no rows")
    task = attachment.task
    if task.generates:
        return score_language_model(
            attachment.base, task, attachment.target_losses, data, progress, processes, intervals=intervals
        )
    logits, targets = labelled_outputs(attachment, data, progress, processes)
    rows = [example.rows for example in data.examples]
    metrics = task.metrics(logits, targets, float(task.losses(logits, targets).mean()), rows)
    return metrics, task.intervals(logits, targets, rows, data.groups) if intervals else {}


def labelled_outputs(
    attachment: Attachment, data: Encoded, progress: Progress, processes: Processes | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs of the head and the targets of labelled examples, in their order, on the CPU; `processes` share the work.

    Raises:
        DataError: there are no labels.
    """
    logits, targets = outputs(attachment, data, progress, processes)
    if targets is None:
        raise DataError("there is nothing to evaluate: the data has no labels")
    return logits, targets


def score_language_model(
    base: Base,
    task: Task,
    run: Callable[[Batch], Tensor],
    data: Encoded,
    progress: Progress,
    processes: Processes | None = None,
    *,
    intervals: bool = False,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Mean loss over all supervised tokens; the logits, a vocabulary wide for every token, are not kept.

    Args:
        base: Where batches are sent.
        task: Makes them.
        run: From a batch to the loss of every target, (n,).
        data: Encoded examples.
        progress: Shows the work.
        processes: As of `score`.
        intervals: As of `score`.

    Returns:
        The metrics, and where wanted a bootstrap interval of the loss, drawn from whole examples.
    """
    sums, counts = token_losses(base, task, run, data, progress, processes)
    nothing = torch.empty(0)
    metrics = task.metrics(nothing, nothing, float(sums.sum() / counts.sum()))
    if not intervals:
        return metrics, {}
    drawn = bootstrap(len(sums), lambda rows: float(sums[rows].sum() / counts[rows].sum()), data.groups)
    return metrics, {"loss": drawn}


def token_losses(
    base: Base,
    task: Task,
    run: Callable[[Batch], Tensor],
    data: Encoded,
    progress: Progress,
    processes: Processes | None = None,
) -> tuple[Tensor, Tensor]:
    """The losses of each example added up, and how many there are; (examples,) float64 both. Arguments as above."""
    counts = torch.tensor([example.rows for example in data.examples], dtype=torch.float64)
    own = _share(data, processes)

    def by_row(rows: list[int], losses: Tensor) -> list[tuple[int, float]]:
        parts = losses.double().cpu().split([data.examples[row].rows for row in rows])
        return [(row, float(part.sum())) for row, part in zip(rows, parts, strict=True)]

    with progress.bar("evaluating", len(own), "examples") as bar, evaluating(base.model):
        batches = _batches(base, task, run, data, TEXTS_AT_ONCE, own, by_row, bar)
        parts = [part for batch in batches for part in batch]
    parts = sorted(processes.collect(parts) if processes is not None else parts)
    sums = torch.tensor([total for _, total in parts], dtype=torch.float64)
    return sums, counts


def outputs(
    attachment: Attachment,
    data: Encoded,
    progress: Progress,
    processes: Processes | None = None,
    *,
    keep_features: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Outputs of the head at the task's temperature, (n, outputs) fp32, and the targets; in order, and on the CPU."""
    base, task, head = attachment.base, attachment.task, attachment.head
    parts: list[tuple[list[int], Tensor, Tensor | None]] = []

    def on_cpu(rows: list[int], ran: tuple[Tensor, Tensor | None]) -> tuple[list[int], Tensor, Tensor | None]:
        logits, targets = ran
        # Whole batches: a part of a tensor takes all of it along when it is sent to another process.
        return rows, logits.float().cpu(), targets.cpu() if targets is not None else None

    own = _share(data, processes)
    if isinstance(attachment.strategy, Solver) and head is not None and not attachment.parameters:
        if base.shards is not None:  # the processes that hold its parts have to encode the same examples
            own, processes = list(range(len(data.examples))), None
        if own:
            encoded = Encoded([data.examples[row] for row in own])
            features, targets = encode_features(base, task, encoded, progress, keep=keep_features)
            with torch.no_grad():
                parts.append(on_cpu(own, (head(features.to(base.device)), targets)))
    else:
        in_one_row = flattened(base, task, data.examples, attachment)
        bars = progress.bar("predicting", len(own), "examples")
        with bars as bar, evaluating(base.model), kept_heap(base), in_one_row:
            parts += _batches(base, task, attachment.logits, data, EXAMPLES_AT_ONCE, own, on_cpu, bar)
    parts = processes.collect(parts) if processes is not None else parts
    order = torch.tensor([row for rows, _, _ in parts for row in rows])
    counts = torch.tensor([data.examples[row].rows for rows, _, _ in parts for row in rows])
    in_order = order.repeat_interleave(counts).argsort(stable=True)
    logits = torch.cat([logits for _, logits, _ in parts])[in_order]
    logits /= task.decision.divisor
    known = [targets for _, _, targets in parts if targets is not None]
    return logits, torch.cat(known)[in_order] if known else None


def _share(data: Encoded, processes: Processes | None) -> list[int]:
    """The rows that this process takes, longest first; dealt out in turns, so that all processes have equal work."""
    lengths = [example.length for example in data.examples]
    order = longest_first(lengths)
    return list(processes.share(order)) if processes is not None else order


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout and gradients off for the length of a `with` block; afterwards every module is in its old mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _batches(
    base: Base,
    task: Task,
    run: Callable[[Batch], Ran],
    data: Encoded,
    size: int,
    own: list[int],
    keep: Callable[[list[int], Ran], Kept],
    bar: Bar,
) -> Iterator[Kept]:
    """Run the examples `own` in that order, at most `size` at once, and yield what `keep` makes of each batch.

    The processes of a sharded base all run the same number of batches, even those with fewer examples.
    """
    most = len(own) if base.shards is None else base.shards.largest(len(own))
    # A process that has no examples left runs the first one again and drops the result.
    lengths = [data.examples[row].length for row in [*own, *[0] * (most - len(own))]]

    def work(start: int, stop: int) -> tuple[list[int], Kept | None]:
        rows = own[start:stop]
        batch = task.collate([data.examples[row] for row in rows] or data.examples[:1], base)
        ran = run({key: value.to(base.device) for key, value in batch.items()})
        return rows, keep(rows, ran) if rows else None

    for rows, kept in in_batches(lengths, size, work, base, "in evaluation with"):
        if kept is not None:
            bar.advance(len(rows))
            yield kept
