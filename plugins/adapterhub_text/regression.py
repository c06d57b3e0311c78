"""A text or a pair of texts in, a number out."""

from __future__ import annotations

from dataclasses import replace

from adapterhub_lite.api import Base, Dataset, Encoded, Modality, Preprocessing, Regression, standard_units
from adapterhub_text import text
from adapterhub_text.options import REGRESSION, TextRegressionOptions


class TextRegression(Regression):
    """A number for a text or a pair of texts, from the base's pooled features."""

    name = REGRESSION
    modality: Modality = "text"
    inputs = text.inputs
    features = text.features
    item = text.item
    samples = text.samples
    probe = text.probe
    item_of_probe = text.item_of_probe

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: TextRegressionOptions) -> Preprocessing:
        """Settle length, pooling and scaling of the text, and the units of the targets."""
        settled = text.settle_text(base, data, options)
        return replace(settled, facts={**settled.facts, **standard_units(data)})

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        return text.encode_texts(dataset, base, self.preprocessing)
