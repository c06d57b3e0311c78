"""A time series in, a number out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from adapterhub_lite.api import (
    Base,
    Batch,
    Dataset,
    Encoded,
    Example,
    Modality,
    ModelMap,
    Preprocessing,
    Regression,
    counted,
    standard_units,
)
from adapterhub_series.inputs import SeriesInputs
from adapterhub_series.options import SeriesRegressionOptions
from adapterhub_series.settle import settle_series


class SeriesRegression(Regression):
    """Predicts one number a series with a linear head on the base's pooled features of each channel.

    With `target_cap`, targets and predictions above the cap are replaced by the cap before they are compared.
    """

    name = "series-regression"
    modality: Modality = "series"

    def __init__(self, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(labels, preprocessing)
        self.series = SeriesInputs.from_record(preprocessing, SeriesRegressionOptions)
        self.cap: float | None = preprocessing.options.get("target_cap")

    @classmethod
    def settle(cls, base: Base, data: Dataset, options: SeriesRegressionOptions) -> Preprocessing:
        """See `TaskKind.settle`."""
        settled = settle_series(base, data, options)
        units = standard_units(replace(data, targets=_capped(data.targets, options.target_cap)))
        return replace(settled, facts={**settled.facts, **units})

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        encoded = self.series.encode(dataset, 1.0, _capped(dataset.targets, self.cap))
        above = sum(target > self.cap for target in dataset.targets or ()) if self.cap is not None else 0
        if not above:
            return encoded
        note = f"{counted(above, 'target')} above {self.cap:g} counted as {self.cap:g} (target_cap)"
        return replace(encoded, notes=(*encoded.notes, note))

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

    def _in_units(self, values: Tensor) -> Tensor:
        in_units = super()._in_units(values)
        return in_units if self.cap is None else in_units.clamp(max=self.cap)


def _capped(targets: Sequence[float] | None, cap: float | None) -> Sequence[float] | None:
    return targets if targets is None or cap is None else [min(target, cap) for target in targets]
