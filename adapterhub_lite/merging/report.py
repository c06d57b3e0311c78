"""Comparing a merged model with the adapter it was made of, on the adapter's own probe inputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

THRESHOLDS = {"F64": 1e-4, "F32": 1e-4, "F16": 1e-2, "BF16": 5e-2}
"""Largest difference of a logit, as a share of the largest logit (at least 1), by the dtype the weights are stored in.

The differences come from rounding the merged weights, each by up to 2^-24 of it in fp32, 2^-11 in fp16, 2^-8 in bf16.
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
