"""Running an adapter over a dataset without learning: logits, and scores from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_lite.api import Solver
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.batches import length_batches
from adapterhub_lite.errors import DataError, TrainingError
from adapterhub_lite.features.store import encode_features
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.attachment import Attachment
from adapterhub_lite.tasks.task import Batch, Encoded, Task
from adapterhub_lite.training.memory import free, is_out_of_memory, need

EXAMPLES_AT_ONCE = 32
TEXTS_AT_ONCE = 8


def predict_logits(attachment: Attachment, data: Encoded, progress: Progress) -> Tensor:
    """Logits of a classifier for each example, (n, classes) fp32 on the CPU, in the order of the examples."""
    if isinstance(attachment.strategy, Solver) and attachment.head is not None and not attachment.parameters:
        features, _ = encode_features(attachment.base, attachment.task, data, progress)
        with torch.no_grad():
            result: Tensor = attachment.head(features.to(attachment.base.device)).float().cpu()
        return result
    parts: list[tuple[int, Tensor]] = []
    lengths = [example.length for example in data.examples]
    work = _batches(attachment.base, attachment.task, attachment.logits, data, EXAMPLES_AT_ONCE)
    with progress.bar("predicting", len(lengths), "examples") as bar, evaluating(attachment.base.model):
        for rows, logits, _ in work:
            parts += zip(rows, logits.float().cpu(), strict=True)
            bar.advance(len(rows))
    return torch.stack([logits for _, logits in sorted(parts, key=lambda part: part[0])])


def score(attachment: Attachment, data: Encoded, progress: Progress) -> dict[str, float]:
    """The task's metrics on labelled examples.

    Raises:
        DataError: when there are no examples.
    """
    if not data.examples:
        raise DataError("there is nothing to evaluate: the data has no rows")
    if attachment.task.labels:
        logits = predict_logits(attachment, data, progress)
        targets = torch.tensor([example.target for example in data.examples])
        loss = float(functional.cross_entropy(logits, targets))
        return attachment.task.metrics(logits, targets, loss)
    return score_language_model(attachment.base, attachment.task, attachment.logits, data, progress)


def score_language_model(
    base: Base, task: Task, run: Callable[[Batch], tuple[Tensor, Tensor | None]], data: Encoded, progress: Progress
) -> dict[str, float]:
    """Mean loss over all supervised tokens; the logits, a vocabulary wide for every token, are not kept.

    Args:
        base: Where batches are sent.
        task: Makes them.
        run: From a batch to (n, vocabulary) logits and (n,) targets.
        data: Encoded examples.
        progress: Shows the work.
    """
    total, count = 0.0, 0
    with progress.bar("evaluating", len(data.examples), "examples") as bar, evaluating(base.model):
        for rows, logits, targets in _batches(base, task, run, data, TEXTS_AT_ONCE):
            assert targets is not None
            total += float(functional.cross_entropy(logits, targets, reduction="sum"))
            count += targets.numel()
            bar.advance(len(rows))
    nothing = torch.empty(0)
    return task.metrics(nothing, nothing, total / count)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Neither dropout nor gradients for the length of a `with` block; each module is in its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _batches(
    base: Base, task: Task, run: Callable[[Batch], tuple[Tensor, Tensor | None]], data: Encoded, size: int
) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
    """Run all examples, longest first: rows, logits and targets of each batch. Batches that do not fit are cut in two."""
    waiting = length_batches([example.length for example in data.examples], size)[::-1]
    while waiting:
        rows = waiting.pop()
        try:
            batch = task.collate([data.examples[row] for row in rows], base)
            logits, targets = run({key: value.to(base.device) for key, value in batch.items()})
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(rows) == 1:
                raise TrainingError(
                    f"out of memory in evaluation with a single example of length {data.examples[rows[0]].length}"
                    f"{need(error, base.device)}; use a shorter --max-length, --quantize nf4, or a smaller base"
                ) from error
            cut = True
        else:
            cut = False
            yield rows, logits, targets
        if cut:  # outside the except block, where the error would keep the activations alive
            free(base.device)
            half = len(rows) // 2
            waiting += [rows[half:], rows[:half]]
