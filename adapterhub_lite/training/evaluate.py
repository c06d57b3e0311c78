"""Running an adapter over a dataset without learning: logits, and scores from them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.api import Solver
from adapterhub_lite.data.batches import length_batches
from adapterhub_lite.errors import DataError
from adapterhub_lite.features.store import encode_features
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.attachment import Attachment
from adapterhub_lite.tasks.task import Encoded

EXAMPLES_AT_ONCE = 32


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
    # The logits of a language model are not kept: a vocabulary wide for every token, they would fill the memory.
    total, count = 0.0, 0
    attachment.base.model.eval()
    lengths = [example.length for example in data.examples]
    with progress.bar("evaluating", len(lengths), "examples") as bar, torch.no_grad():
        for rows in length_batches(lengths, 8):
            batch = attachment.task.collate([data.examples[row] for row in rows], attachment.base)
            logits, found = attachment.logits({key: value.to(attachment.base.device) for key, value in batch.items()})
            assert found is not None
            total += float(functional.cross_entropy(logits, found, reduction="sum"))
            count += found.numel()
            bar.advance(len(rows))
    nothing = torch.empty(0)
    return attachment.task.metrics(nothing, nothing, total / count)
