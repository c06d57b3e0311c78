"""A text or a pair of texts in, one of several labels or any number of them out."""

from __future__ import annotations

import re
from dataclasses import replace

from adapterhub_lite.api import Base, Classification, ConfigError, Dataset, Encoded, Modality, Preprocessing
from adapterhub_text import text
from adapterhub_text.options import CLASSIFICATION, TextClassificationOptions


class TextClassification(Classification):
    """One label or several for a text or a pair of texts, from the base's pooled features."""

    name = CLASSIFICATION
    modality: Modality = "text"
    auto_class = "AutoModelForSequenceClassification"
    inputs = text.inputs
    features = text.features
    item = text.item
    samples = text.samples
    probe = text.probe
    item_of_probe = text.item_of_probe

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: TextClassificationOptions) -> Preprocessing:
        """Settle length, pooling and scaling of the text; refuse to learn the names of classes from pairs."""
        settled = text.settle_text(base, data, options)
        if options.learn_names and settled.facts.get(text.PAIRS):
            raise ConfigError("learn_names makes a text of each class's name, and this data has pairs of texts")
        return settled

    def to_learn(self, dataset: Dataset) -> Dataset:
        if not self.preprocessing.options.get("learn_names") or dataset.targets is None:
            return dataset
        names = [(words_of(label), number) for number, label in enumerate(self.labels)]
        named = [(words, number) for words, number in names if any(character.isalpha() for character in words)]
        return replace(
            dataset,
            inputs=(*dataset.inputs, *(words for words, _ in named)),
            targets=(*dataset.targets, *((number,) if self.several else number for _, number in named)),
            table=None,
            groups=None,
        )

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        return text.encode_texts(dataset, base, self.preprocessing, self.weight())


def words_of(label: str) -> str:
    """A label as words: "card_arrival" and "CardArrival" are both "card arrival"."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label)
    return " ".join(re.split(r"[\s_\-./]+", parted)).strip().lower()
