"""Text in, one of several labels out: a linear head on the base's pooled features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ModelMap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.modelmap import backbone
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.metrics import classification_metrics
from adapterhub_lite.tasks.pooling import pool
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing


class TextClassification:
    """See the module's docstring."""

    name = "text-classification"
    metric = "accuracy"
    higher_is_better = True

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels = tuple(labels)
        self.preprocessing = preprocessing

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        return classification_head(model_map.hidden_size, len(self.labels))

    def outputs(self, base: Base) -> int:
        return len(self.labels)

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        limit = self.preprocessing.max_length
        ids = base.tokenizer(list(dataset.inputs), truncation=False, add_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        cut = sum(len(row) > limit for row in ids) if limit else 0
        if cut:
            # Cut again by the tokenizer, which keeps the closing special token in its place.
            ids = base.tokenizer(list(dataset.inputs), truncation=True, max_length=limit)["input_ids"]
        targets: Sequence[int | None] = dataset.targets if dataset.targets is not None else [None] * len(ids)
        examples = [Example(row, target, len(row), 1) for row, target in zip(ids, targets, strict=True)]
        notes = (f"{cut} of {len(ids)} texts are longer than {limit} tokens and were cut",) if cut else ()
        return Encoded(examples, notes)

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        batch = pad_tokens([example.inputs for example in examples], base.tokenizer.pad_token_id)
        if all(example.target is not None for example in examples):
            batch["targets"] = torch.tensor([example.target for example in examples])
        return batch

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        model = backbone(base.model)
        options: dict[str, Any] = {"use_cache": False} if base.map.causal else {}
        hidden = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **options
        ).last_hidden_state
        pooled = pool(hidden, batch["attention_mask"], self.preprocessing.pooling or base.map.pooling)
        return pooled, batch.get("targets")

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        assert head is not None
        features, targets = self.features(base, batch)
        return head(features).float(), targets

    def metrics(self, logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
        return classification_metrics(logits, targets, loss)


def classification_head(hidden_size: int, classes: int) -> nn.Linear:
    """A linear head in fp32, started at small weights so that the first loss is close to log(classes)."""
    head = nn.Linear(hidden_size, classes)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def pad_tokens(rows: Sequence[Sequence[int]], pad: int | None) -> dict[str, Tensor]:
    """Pad token ids on the right: input_ids and attention_mask, (batch, tokens) int64."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad or 0)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
