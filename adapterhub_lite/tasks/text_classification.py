"""A text or a pair of texts in, one of several labels or any number of them out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.spec import Modality
from adapterhub_lite.tasks import text
from adapterhub_lite.tasks.classification import Classification
from adapterhub_lite.tasks.options import TextClassificationOptions
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing


class TextClassification(Classification):
    """See the module's docstring: a linear head on the base's pooled features."""

    name = "text-classification"
    modality: Modality = "text"

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: TextClassificationOptions) -> Preprocessing:
        """See `TaskKind.settle`."""
        settled = text.settle_text(base, data, options)
        if options.learn_names and settled.facts.get(text.PAIRS):
            raise ConfigError("learn_names makes a text of each class's name, and this data has pairs of texts")
        return settled

    def to_learn(self, dataset: Dataset) -> Dataset:
        if not self.preprocessing.options.get("learn_names") or dataset.targets is None:
            return dataset
        names = [(words_of(label), number) for number, label in enumerate(self.labels)]
        named = [(words, number) for words, number in names if any(each.isalpha() for each in words)]
        return replace(
            dataset,
            inputs=(*dataset.inputs, *(words for words, _ in named)),
            targets=(*dataset.targets, *((number,) if self.several else number for _, number in named)),
            table=None,
            groups=None,
        )

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        return text.encode_texts(dataset, base, self.preprocessing, self.weight())

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        return text.pad_items([example.inputs for example in examples], base.tokenizer.pad_token_id)

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return text.pooled(base, batch, self.preprocessing), batch.get("targets")

    def item(self, value: Any, row: int) -> Any:
        return text.checked_input(value, row, self.preprocessing)

    def samples(self) -> list[Any]:
        return list(text.samples(self.preprocessing))

    def probe(self, item: Any, number: int) -> Any:
        return text.probe_of(item)

    def item_of_probe(self, value: Any) -> Any:
        return text.item_of_probe(value)


def words_of(label: str) -> str:
    """A label as words: "card_arrival" and "CardArrival" are both "card arrival"."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label)
    return " ".join(re.split(r"[\s_\-./]+", parted)).strip().lower()
