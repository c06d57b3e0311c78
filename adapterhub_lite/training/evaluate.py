"""Running an adapter over a dataset without learning: logits, and scores from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.api import Solver
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.batches import length_batches
from adapterhub_lite.errors import DataError
from adapterhub_lite.features.store import encode_features
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.attachment import Attachment
from adapterhub_lite.tasks.task import Batch, Encoded, Task

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
    attachment.base.model.eval()
    with progress.bar("predicting", len(lengths), "examples") as bar, torch.no_grad():
        for rows in length_batches(lengths, EXAMPLES_AT_ONCE):
            batch = attachment.task.collate([data.examples[row] for row in rows], attachment.base)
            logits, _ = attachment.logits({key: value.to(attachment.base.device) for key, value in batch.items()})
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
    base.model.eval()
    lengths = [example.length for example in data.examples]
    with progress.bar("evaluating", len(lengths), "examples") as bar, torch.no_grad():
        for rows in length_batches(lengths, TEXTS_AT_ONCE):
            batch = task.collate([data.examples[row] for row in rows], base)
            logits, targets = run({key: value.to(base.device) for key, value in batch.items()})
            assert targets is not None
            total += float(functional.cross_entropy(logits, targets, reduction="sum"))
            count += targets.numel()
            bar.advance(len(rows))
    nothing = torch.empty(0)
    return task.metrics(nothing, nothing, total / count)
