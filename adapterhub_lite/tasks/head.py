"""Tasks with a linear head of their own on the base's features, and how features are pooled for one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.tasks.head_class import HeadClass, find_head_class
from adapterhub_lite.tasks.task import Batch, Example, Preprocessing, Task


class HeadTask(Task):
    """A task with a linear head; subclasses say how inputs become features, and what the outputs mean."""

    auto_class: str | None = None
    """What transformers opens models for it with, as in "AutoModelForSequenceClassification"; None where it has nothing."""

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels = tuple(labels)
        self.preprocessing = preprocessing

    @property
    def output_size(self) -> int:
        """How many numbers the head gives: one for each label."""
        return len(self.labels)

    def outputs(self, base: Base) -> int:
        return self.output_size

    @abstractmethod
    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        """Tensors of the inputs alone."""

    @abstractmethod
    def targets(self, examples: Sequence[Example]) -> Tensor:
        """Tensor of the targets, one row an example."""

    def feature_size(self, model_map: ModelMap) -> int:
        """Numbers in a feature."""
        return model_map.hidden_size * (1 + (self.preprocessing.pooling or "").count("+"))

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        # In fp32, and from small weights, so that every output begins near zero.
        known = self.head_class
        head = nn.Linear(self.feature_size(model_map), self.output_size, bias=known is None or known.bias)
        nn.init.normal_(head.weight, std=0.02)
        if head.bias is not None:
            nn.init.zeros_(head.bias)
        return head

    @property
    def head_class(self) -> HeadClass | None:
        """The class of transformers that the head was made for, so that others can open what is saved with it."""
        return HeadClass.from_facts(self.preprocessing.facts)

    def follow_class(self, base: Base) -> None:
        """Make heads that the class of transformers for this base can hold, where there is such a class."""
        try:
            found = find_head_class(base, self)
        except NotSupportedError:
            return
        self.preprocessing = replace(self.preprocessing, facts={**self.preprocessing.facts, **found.record()})

    def class_logits(self, model: Any, batch: Batch) -> Tensor:
        """What a model of the class gives for a batch, as `logits` does: (n, outputs)."""
        logits: Tensor = model(**{name: value for name, value in batch.items() if name != "targets"}).logits
        return logits

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        batch = self.inputs(examples, base)
        if all(example.target is not None for example in examples):
            batch["targets"] = self.targets(examples)
        return batch

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        assert head is not None
        features, targets = self.features(base, batch)
        return head(features).float(), targets


def targets_of(dataset: Dataset) -> Sequence[Any]:
    """The target of each row, None for every row of unlabelled data."""
    return dataset.targets if dataset.targets is not None else [None] * len(dataset)


def like(values: Sequence[float], other: Tensor) -> Tensor:
    """Numbers as an fp32 tensor on the device of another."""
    return torch.tensor(list(values), dtype=torch.float32, device=other.device)


def pool(hidden: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Pool features in fp32.

    Args:
        hidden: (batch, tokens, hidden_size), or (batch, channels, height, width) of a convolutional network.
        mask: (batch, tokens), 1 for real tokens; None where all are.
        how: As `ModelMap.pooling`.

    Returns:
        (batch, hidden_size) in fp32; several ways give their vectors one behind the other.
    """
    hidden = hidden.float()
    if hidden.dim() == 4:
        return hidden.mean(dim=(2, 3))
    return torch.cat([_pool(hidden, mask, way) for way in how.split("+")], dim=-1)


def _pool(hidden: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """One way of pooling, as sentence-transformers defines it (`sentence_transformers.models.Pooling`)."""
    if how == "cls":
        return hidden[:, 0]
    if mask is None and how in ("last", "mean"):
        return hidden[:, -1] if how == "last" else hidden.mean(dim=1)
    mask = torch.ones(hidden.shape[:2], device=hidden.device) if mask is None else mask
    if how == "last":
        # Right for padding on either side: the place of the last 1.
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.unsqueeze(-1).float()  # (batch, tokens, 1)
    if how == "max":
        return hidden.masked_fill(weights == 0, -torch.inf).amax(dim=1)
    if how == "weightedmean":
        weights = weights * weights.cumsum(dim=1)  # the first real token counts once, the second twice
    total, size = (hidden * weights).sum(dim=1), weights.sum(dim=1).clamp(min=1)
    return total / (size.sqrt() if how == "mean_sqrt_len" else size)
