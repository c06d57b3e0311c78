"""Comparing a merged model with the adapter it was made of, on the adapter's own probe inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.task import Batch, Task, encode

THRESHOLDS = {"F64": 1e-4, "F32": 1e-4, "F16": 1e-2, "BF16": 5e-2}
"""Largest difference of a logit, as a share of the largest logit (at least 1), by the dtype the weights are stored in.

What is lost is what rounding the merged weights loses: 2^-24 of each in fp32, 2^-11 in fp16, 2^-8 in bf16.
"""


@dataclass(frozen=True)
class MergeReport:
    """How the merged model differs from the unmerged adapter."""

    inputs: int
    positions: int
    """Rows of logits compared: one for each input of a classifier, one for each supervised token of a language model."""
    largest_difference: float
    mean_difference: float
    largest_logit: float
    agreement: float
    """Share of the rows whose largest logit is in the same place."""
    stored_as: str
    """The coarsest dtype of the merged weights: F32, BF16 or F16."""
    threshold: float
    """What `largest_difference` may be at most."""

    @property
    def passed(self) -> bool:
        return self.largest_difference <= self.threshold  # False for NaN, too

    def line(self) -> str:
        """The report in one line."""
        return (
            f"logits differ by {self.largest_difference:.1e} at most ({self.threshold:.1e} allowed for {self.stored_as}) and "
            f"{self.mean_difference:.1e} on average, top token or label the same in {self.agreement:.1%} of "
            f"{self.positions} positions of {self.inputs} inputs"
        )


def probe_items(task: Task, saved: Sequence[Any]) -> list[Any]:
    """The adapter's probe inputs, or made-up ones of the right kind where it has none."""
    if saved:
        return list(saved)
    return list(task.samples())


def probe_logits(
    task: Task, base: Any, items: Sequence[Any], logits: Callable[[Batch], tuple[Tensor, Tensor | None]]
) -> list[Tensor]:
    """All logits for each item: (1, labels) of a classifier, (supervised tokens, vocabulary) of a language model."""
    dataset = Dataset(task.name, tuple(items), None, task.labels, {}, "<probe>", "", None, form=task.preprocessing.form)
    found = []
    with torch.no_grad():
        for example in encode(task, dataset, base).examples:
            batch = {name: value.to(base.device) for name, value in task.collate([example], base).items()}
            found.append(logits(batch)[0].float().cpu())
    return found


def compare(before: Sequence[Tensor], after: Sequence[Tensor], dtypes: Collection[str]) -> MergeReport:
    """Compare logits of the unmerged adapter with those of the merged model."""
    old, new = torch.cat(list(before)).double(), torch.cat(list(after)).double()  # (positions, outputs)
    difference = (old - new).abs()
    stored_as = max(dtypes, key=lambda dtype: THRESHOLDS[dtype], default="F32")
    largest = float(old.abs().max())
    return MergeReport(
        inputs=len(before),
        positions=len(old),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        largest_logit=largest,
        agreement=float((old.argmax(dim=-1) == new.argmax(dim=-1)).double().mean()),
        stored_as=stored_as,
        threshold=THRESHOLDS[stored_as] * max(1.0, largest),
    )
