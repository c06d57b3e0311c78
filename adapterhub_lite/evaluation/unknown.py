"""Labels of the rows that an adapter was not trained on: counted, listed, and classes that it never predicts."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.evaluation.result import UnknownLabel
from adapterhub_lite.tasks.task import Encoded, Task, rows_of

LISTED = 100
"""Most rows of an unknown label that are listed."""


def with_unknown(
    task: Task, data: Dataset, encoded: Encoded, logits: Tensor, targets: Tensor
) -> tuple[Task, Tensor, Tensor]:
    """A task that knows the names of all labels of the data, and outputs in which those that are not known never win."""
    if not data.unknown:
        return task, logits, targets
    judge, known, more = copy.copy(task), len(task.labels), len(data.unknown)
    judge.labels = (*task.labels, *data.unknown)
    if targets.dim() == 2:  # of several labels, the targets hold those that are known
        others = torch.zeros(len(targets), more)
        for row, example in enumerate(encoded.examples):
            others[row, [label - known for label in example.target if label >= known]] = 1.0
        targets = torch.cat([targets, others], dim=1)
    return judge, torch.nn.functional.pad(logits, (0, more), value=-math.inf), targets


def unknown_labels_of(data: Dataset) -> tuple[UnknownLabel, ...]:
    """The unknown labels of a dataset, with the rows that have them."""
    rows: list[list[int]] = [[] for _ in data.unknown]
    numbers, first = rows_of(data), len(data.labels)
    for row, target in enumerate(data.targets or () if data.unknown else ()):
        for label in set(target) if isinstance(target, tuple) else (target,):
            if label >= first:
                rows[label - first].append(numbers[row] + 1)
    return tuple(
        UnknownLabel(name, len(own), tuple(own[:LISTED])) for name, own in zip(data.unknown, rows, strict=True)
    )


def notes_on(unknown: Sequence[UnknownLabel]) -> list[str]:
    """A line that says which labels are not known, where, and how they count; none where there are none."""
    if not unknown:
        return []
    shown = [
        f"{label.label!r} in row {label.rows[0]}"
        if label.n == 1
        else f"{label.label!r} in {label.n} rows ({', '.join(map(str, label.rows[:5]))}{', ...' * (label.n > 5)})"
        for label in unknown[:10]
    ]
    more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
    return [
        f"{counted(len(unknown), 'label')} of the data the adapter does not know: {', '.join(shown)}{more}; such rows count "
        "as wrong, and in the loss not at all; in averages over classes such a label is one more class, whose F1 is 0"
    ]
