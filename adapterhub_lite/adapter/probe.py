"""The probe of an adapter: a few inputs saved with the outputs seen then, by which a loaded adapter can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.storage import ProbeRecord
from adapterhub_lite.tasks.task import Batch, Task, encode
from adapterhub_lite.training.attachment import Attachment

PROBE_VALUES = 16
"""How many of the first logits are saved for each input."""


def probe_record(attachment: Attachment, items: Sequence[Any]) -> ProbeRecord | None:
    """The probe as it is saved; None where no input can be.

    Raises:
        TrainingError: an output is not finite, as after training that went wrong.
    """
    values = [attachment.task.probe(item, number) for number, item in enumerate(items)]
    inputs = [value for value in values if value is not None]
    if not inputs:
        return None
    outputs = probe_outputs(attachment, inputs)
    if not all(math.isfinite(value) for row in outputs for value in row):
        raise TrainingError(
            "the adapter gives outputs that are not finite, so it is not saved; train again with a lower --lr or --weight-decay"
        )
    return ProbeRecord(inputs=inputs, outputs=outputs)


def probe_outputs(attachment: Attachment, inputs: list[Any]) -> list[list[float]]:
    """The first logits for each saved input: of the classes, or at the first supervised token."""
    items = [attachment.task.item_of_probe(value) for value in inputs]
    logits = probe_logits(attachment.task, attachment.base, items, attachment.logits)
    return [rows[0, :PROBE_VALUES].tolist() for rows in logits]


def probe_items(task: Task, saved: Sequence[Any]) -> list[Any]:
    """The inputs of an adapter's probe, or made-up ones of the right kind where it has none."""
    return list(saved) or list(task.samples())


def probe_logits(
    task: Task, base: Base, items: Sequence[Any], run: Callable[[Batch], tuple[Tensor, Tensor | None]]
) -> list[Tensor]:
    """All logits for each item, fp32 on the CPU: (1, labels) of a classifier, (supervised tokens, vocabulary) else."""
    with torch.no_grad():
        return [run(batch)[0].float().cpu() for batch in probe_batches(task, base, items)]


def probe_batches(task: Task, base: Base, items: Sequence[Any]) -> Iterator[Batch]:
    """Each item as a batch of its own, on the base's device."""
    dataset = Dataset(task.name, tuple(items), None, task.labels, {}, "<probe>", "", None, form=task.preprocessing.form)
    for example in encode(task, dataset, base).examples:
        yield {name: value.to(base.device) for name, value in task.collate([example], base).items()}
