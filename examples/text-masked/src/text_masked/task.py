"""The half of text-masked that needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from adapterhub_lite import api
from adapterhub_lite.api import Base, Batch, Dataset, Encoded, Example, NotSupportedError, Preprocessing
from torch import Tensor, nn
from torch.nn import functional

from text_masked import MaskedOptions


class MaskedWords(api.Task):
    """Guess masked tokens (BERT, Devlin et al. 2019, arXiv:1810.04805). Places are drawn once, from the text's row."""

    name = "text-masked"
    modality: api.Modality = "text"
    metric = "loss"
    higher_is_better = False
    target_kind: api.TargetKind = "classes"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        self.labels, self.preprocessing = (), preprocessing

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: MaskedOptions) -> Preprocessing:
        if base.map.causal or base.tokenizer.mask_token_id is None:
            raise NotSupportedError(f"'{base.reference}' has no mask token; text-masked is for encoders")
        length = api.checked_length(base, options.max_length, at_most=256)
        return Preprocessing(max_length=length, options=options.model_dump(mode="json", exclude_unset=True))

    def head(self, model_map: api.ModelMap) -> nn.Linear:
        head = nn.Linear(model_map.hidden_size, model_map.hidden_size)
        nn.init.eye_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def outputs(self, base: Base) -> int:
        return len(base.model.get_input_embeddings().weight)

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        tokenizer, length = base.tokenizer, self.preprocessing.max_length
        texts = tokenizer(list(dataset.inputs), truncation=True, max_length=length, return_special_tokens_mask=True)
        share, examples, rows = MaskedOptions(**self.preprocessing.options).share, [], []
        for row, (ids, special) in enumerate(zip(texts["input_ids"], texts["special_tokens_mask"], strict=True)):
            words = [place for place, is_special in enumerate(special) if not is_special]
            if words:
                places = sorted(Random(row).sample(words, max(1, round(share * len(words)))))
                masked = [tokenizer.mask_token_id if place in places else token for place, token in enumerate(ids)]
                target = [ids[place] for place in places]
                examples.append(Example((masked, places), target, len(ids), len(places), rows=len(places)))
                rows.append(row)
        return Encoded(examples, rows=tuple(rows))

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        batch = api.pad_tokens([example.inputs[0] for example in examples], base.tokenizer.pad_token_id)
        masked = torch.zeros_like(batch["input_ids"], dtype=torch.bool)  # (batch, tokens)
        for row, example in enumerate(examples):
            masked[row, example.inputs[1]] = True
        targets = [token for example in examples for token in example.target or ()]
        known = {"targets": torch.tensor(targets)} if targets else {}
        return {**batch, "masked": masked, **known}

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return api.hidden_states(base, batch)[batch["masked"]].float(), batch.get("targets")  # (n, hidden_size), (n,)

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        assert head is not None
        features, targets = self.features(base, batch)
        embedding: Tensor = base.model.get_input_embeddings().weight  # the decoder of BERT is the same matrix
        return head(features) @ embedding.detach().float().T, targets

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, reduction="none")

    def metrics(self, logits: Tensor, targets: Tensor, loss: float, rows: object = None) -> dict[str, float]:
        return {"loss": loss, "accuracy": float((logits.argmax(dim=-1) == targets).double().mean())}

    def predictions(self, logits: Tensor, data: Encoded) -> list[Any]:
        raise NotSupportedError("text-masked teaches an encoder a domain; merge the adapter and train a task on that")

    def item(self, value: Any, row: int) -> Any:
        raise NotSupportedError("text-masked has nothing to predict; use evaluate")

    def samples(self) -> Sequence[str]:
        return api.SAMPLE_TEXTS

    def probe(self, item: str, number: int) -> str:
        return item

    def item_of_probe(self, value: Any) -> str:
        if not isinstance(value, str):
            raise api.AdapterCorruptError(f"adapterhub.json: probe input not understood: {str(value)[:80]!r}")
        return value
