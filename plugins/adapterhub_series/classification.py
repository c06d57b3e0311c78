"""A time series in, one of several labels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from adapterhub_lite.api import (
    Base,
    Batch,
    Classification,
    Dataset,
    Encoded,
    Example,
    Modality,
    ModelMap,
    Preprocessing,
)
from adapterhub_series.inputs import SeriesInputs
from adapterhub_series.options import SeriesClassificationOptions
from adapterhub_series.settle import settle_series


class SeriesClassification(Classification):
    """Classifies series with a linear head on the base's pooled features of each channel."""

    name = "series-classification"
    modality: Modality = "series"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(labels, preprocessing)
        self.series = SeriesInputs.from_record(preprocessing, SeriesClassificationOptions)

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: SeriesClassificationOptions) -> Preprocessing:
        """See `TaskKind.settle`."""
        return settle_series(base, data, options)

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        return self.series.encode(dataset, self.weight())

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        return self.series.inputs(examples, base)

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self.series.features(base, batch), batch.get("targets")

    def feature_size(self, model_map: ModelMap) -> int:
        return self.series.feature_size(model_map)

    def item(self, value: Any, row: int) -> Any:
        return self.series.item(value, row)

    def samples(self) -> list[Any]:
        return [self.series.noise(number) for number in range(4)]

    def probe(self, item: Any, number: int) -> Any:
        return {"noise": number}

    def item_of_probe(self, value: Any) -> Any:
        return self.series.item_of_probe(value)
