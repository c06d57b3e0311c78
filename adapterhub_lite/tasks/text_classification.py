"""Text in, one of several labels out: a linear head on the base's pooled features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.modelmap import backbone
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.classification import Classification, targets_of
from adapterhub_lite.tasks.pooling import pool
from adapterhub_lite.tasks.task import Batch, Encoded, Example


class TextClassification(Classification):
    """See the module's docstring."""

    name = "text-classification"

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        limit = self.preprocessing.max_length
        ids = base.tokenizer(list(dataset.inputs), truncation=False, add_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        cut = sum(len(row) > limit for row in ids) if limit else 0
        if cut:
            # Cut again by the tokenizer, which keeps the closing special token in its place.
            ids = base.tokenizer(list(dataset.inputs), truncation=True, max_length=limit)["input_ids"]
        examples = [Example(row, target, len(row), 1) for row, target in zip(ids, targets_of(dataset), strict=True)]
        notes = (f"{cut} of {len(ids)} texts are longer than {limit} tokens and were cut",) if cut else ()
        return Encoded(examples, notes)

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        return pad_tokens([example.inputs for example in examples], base.tokenizer.pad_token_id)

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        model = backbone(base.model)
        options: dict[str, Any] = {"use_cache": False} if base.map.causal else {}
        hidden = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **options
        ).last_hidden_state
        pooled = pool(hidden, batch["attention_mask"], self.preprocessing.pooling or base.map.pooling)
        return pooled, batch.get("targets")


def pad_tokens(rows: Sequence[Sequence[int]], pad: int | None) -> dict[str, Tensor]:
    """Pad token ids on the right: input_ids and attention_mask, (batch, tokens) int64."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad or 0)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
