"""A text or a pair of texts in, a number out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.plugins.spec import Modality
from adapterhub_lite.tasks import text
from adapterhub_lite.tasks.options import TextRegressionOptions
from adapterhub_lite.tasks.regression import Regression, standard_units
from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing


class TextRegression(Regression):
    """See the module's docstring: a linear head on the base's pooled features."""

    name = "text-regression"
    modality: Modality = "text"

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: TextRegressionOptions) -> Preprocessing:
        """See `TaskKind.settle`."""
        settled = text.settle_text(base, data, options)
        return replace(settled, facts={**settled.facts, **standard_units(data)})

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        return text.encode_texts(dataset, base, self.preprocessing)

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
