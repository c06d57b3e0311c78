"""What tasks on time series share: from checked series to pooled features of the base."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapterhub_lite.api import (
    AdapterCorruptError,
    Base,
    ConfigError,
    DataError,
    Dataset,
    Encoded,
    Example,
    ModelMap,
    Preprocessing,
    counted,
    shortened,
    targets_of,
)
from adapterhub_series import base as series_base
from adapterhub_series.data import channels_of
from adapterhub_series.data.collected import numbered_channels
from adapterhub_series.options import WINDOWS, SeriesOptions
from adapterhub_series.pooling import levels_of, pool, pooled_size
from adapterhub_series.values import Array, Scales, prepare

LONGEST = 1 << 20  # steps; only a record that was never written has more


@dataclass(frozen=True)
class SeriesInputs:
    """How series become features, as settled from the training data."""

    options: SeriesOptions
    channels: tuple[str, ...]
    """Their names in the training data, in the order of the last axis of inputs."""
    scales: Scales
    steps: int
    """Time steps of each series as the base gets it."""
    apart: int
    """Channels that the base gives features for: all of them, or 1."""
    patches: int
    """Patches that it gives features for, without its summary token."""

    @classmethod
    def from_record(cls, preprocessing: Preprocessing, options: type[SeriesOptions]) -> SeriesInputs:
        """Read what `record` wrote.

        Raises:
            AdapterCorruptError: a value that was never written.
        """
        facts: Any = preprocessing.facts.get("series")
        if not _understood(facts):
            raise AdapterCorruptError(
                f"adapterhub.json: task.preprocessing.facts.series is not understood: {str(facts)[:200]}"
            )
        names, mean, spread = (facts[key] for key in ("channels", "mean", "spread"))
        steps, apart, patches = (facts[key] for key in ("steps", "apart", "patches"))
        scales = Scales(np.array(mean, dtype=np.float64), np.array(spread, dtype=np.float64))
        return cls(options.model_validate(preprocessing.options), tuple(names), scales, steps, apart, patches)

    def record(self) -> dict[str, Any]:
        """As kept in `Preprocessing.facts`."""
        return {
            "channels": list(self.channels),
            "mean": self.scales.mean.tolist(),
            "spread": self.scales.spread.tolist(),
            "steps": self.steps,
            "apart": self.apart,
            "patches": self.patches,
        }

    def encode(self, dataset: Dataset, weight: float, targets: Sequence[Any] | None = None) -> Encoded:
        """Check the channels of a dataset; its arrays are kept as they are, and prepared a batch at a time.

        Raises:
            DataError: other channels than those of training, naming the file.
            ConfigError: windows where training had whole series, or the other way round.
        """
        check_windows(dataset, self.options)
        self._check_channels(dataset)
        absent = holes = 0
        for values in dataset.inputs:
            missing = int(np.isnan(values).sum())
            absent += missing
            holes += missing > 0
        lengths = np.array([len(values) for values in dataset.inputs])
        notes = []
        if absent:
            notes.append(
                f"{counted(absent, 'missing value')} in {counted(holes, 'series', 'series')} filled in from their neighbours"
            )
        other = int(np.count_nonzero(lengths != self.steps))
        if other:
            notes.append(f"{self._refitted(lengths[lengths != self.steps])}, as the base takes {self.steps}")
        rows = zip(dataset.inputs, targets if targets is not None else targets_of(dataset), strict=True)
        return Encoded([Example(values, target, 1, weight) for values, target in rows], tuple(notes))

    def inputs(self, examples: Sequence[Example], base: Base) -> dict[str, Tensor]:
        """Values and, where the base takes it, which of them were there; both (batch, steps, channels)."""
        values, observed = prepare(
            [example.inputs for example in examples], self.scales,
            steps=self.steps, resample=self.options.resample, normalize=self.options.normalize,
        )  # fmt: skip
        batch = {series_base.input_name(base.model): torch.from_numpy(values)}
        mask = series_base.mask_name(base.model)
        return batch if mask is None else {**batch, mask: torch.from_numpy(observed)}

    def features(self, base: Base, batch: Any) -> Tensor:
        """(batch, feature_size) in fp32."""
        values = batch[series_base.input_name(base.model)]
        mask = batch.get(series_base.mask_name(base.model))
        hidden = series_base.encode(base, values, mask).float()  # (batch, channels, patches, hidden_size)
        summary = series_base.has_summary(base.model)
        pooled = pool(hidden, self.options.patch_pooling or "mean", self.options.channel_pooling, summary)
        return torch.cat([pooled, levels_of(values, mask)], dim=1) if self.options.levels else pooled

    def feature_size(self, model_map: ModelMap) -> int:
        """Numbers in a feature."""
        how = self.options.patch_pooling or "mean"
        size = pooled_size(model_map.hidden_size, self.apart, self.patches, how, self.options.channel_pooling)
        return size + (2 * len(self.channels) if self.options.levels else 0)

    def item(self, value: Any, row: int) -> Array:
        """Check a series given in Python: (time, channels), or (time,) of one channel; None or NaN where one is missing.

        Where the options ask for windows, it is cut to its last window, as series read from a file are.
        """
        channels = len(self.channels)
        try:
            if np.iscomplexobj(value):
                raise TypeError("complex numbers have two parts")
            with np.errstate(over="ignore"):  # what is too large is infinite, and refused below
                array = np.array(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"input {row + 1}: is not an array of numbers, (time, {channels}): {error}") from error
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1] != channels or not len(array):
            raise ConfigError(
                f"input {row + 1}: is of shape {array.shape}; give (time, {channels}), its channels being "
                f"{shortened(self.channels)}"
            )
        if np.isinf(array).any() or np.isnan(array).all():
            raise ConfigError(
                f"input {row + 1}: {'holds infinite values' if np.isinf(array).any() else 'holds no value'}"
            )
        if self.options.window is None:
            return array
        array = array[-self.options.window :]
        return np.concatenate([np.repeat(array[:1], self.options.window - len(array), axis=0), array])

    def noise(self, number: int) -> Array:
        """A made-up series in the units of the training data, always the same for a number."""
        steps = self.options.window or self.steps
        noise = hashlib.shake_256(str(number).encode()).digest(steps * len(self.channels))
        uniform = np.frombuffer(noise, np.uint8).reshape(steps, -1) / 64 - 2  # in [-2, 2)
        return np.asarray(self.scales.mean + self.scales.spread * uniform, dtype=np.float32)

    def item_of_probe(self, value: Any) -> Array:
        """The inverse of `probe`, which keeps no series, since they may be large and private."""
        match value:
            case {"noise": int(number), **rest} if not rest:
                return self.noise(number)
        raise AdapterCorruptError(
            f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
        )

    def _check_channels(self, dataset: Dataset) -> None:
        for row, values in enumerate(dataset.inputs):
            if values.shape[1] != len(self.channels):
                where = dataset.table.where(row) if dataset.table is not None else f"{dataset.source}, input {row}"
                raise DataError(
                    f"{where}: has {counted(values.shape[1], 'channel')} where the training data had {len(self.channels)} "
                    f"({shortened(self.channels)}); give the same channels, with --column channels=NAME,NAME in a table"
                )
        names, numbered = channel_names(dataset), numbered_channels(len(self.channels))
        if names != self.channels and numbered not in (names, self.channels):
            raise DataError(
                f"{dataset.source}: its channels are {shortened(names)}, and those of the training data were "
                f"{shortened(self.channels)}; name them in that order with --column channels=NAME,NAME"
            )

    def _refitted(self, lengths: Array) -> str:
        """A note on how series of another length than the base takes are fitted to it."""
        short, long = int(np.count_nonzero(lengths < self.steps)), int(np.count_nonzero(lengths > self.steps))
        span = f"{lengths.min()}" if lengths.min() == lengths.max() else f"{lengths.min()} to {lengths.max()}"
        series = f"{counted(len(lengths), 'series', 'series')} of {span} steps"
        match self.options.resample:
            case "pad":
                return f"{series}: {short} led by their first step, {long} resampled"
            case "last":
                return f"{series}: {short} led by their first step, of {long} only the last steps used"
        return f"{series} resampled"


def check_windows(data: Dataset, options: SeriesOptions) -> None:
    """Windows are cut when data is read: refuse a dataset that was read otherwise than the options say.

    Raises:
        ConfigError: whole series for windows, or windows of another length, or where whole series are needed.
    """
    if options.window is None:
        if data.form == WINDOWS:
            raise ConfigError(f"{data.source}: was cut into windows when it was read, and whole series are needed here")
        return
    wrong_length = next((values for values in data.inputs if len(values) != options.window), None)
    if wrong_length is not None or data.form != WINDOWS:
        what = "whole" if data.form != WINDOWS or wrong_length is None else f"in windows of {len(wrong_length)} steps"
        raise ConfigError(
            f"window={options.window}: {data.source} was read {what}; read it with this option, or for a trained adapter "
            "with its own load_data"
        )


def channel_names(dataset: Dataset) -> tuple[str, ...]:
    """The names of a dataset's channels, numbered where it has none."""
    return channels_of(dataset) if "channels" in dataset.columns else numbered_channels(dataset.inputs[0].shape[1])


def _understood(facts: Any) -> bool:
    """Whether facts are those that `SeriesInputs.record` writes."""
    if not isinstance(facts, dict) or set(facts) != {"channels", "mean", "spread", "steps", "apart", "patches"}:
        return False
    names, mean, spread = (facts[key] for key in ("channels", "mean", "spread"))
    if not all(isinstance(values, list) and values and len(values) == len(names) for values in (names, mean, spread)):
        return False
    return (
        all(isinstance(name, str) for name in names)
        and all(type(value) in (int, float) and math.isfinite(value) for value in (*mean, *spread))
        and min(spread) > 0
        and all(type(facts[key]) is int and 1 <= facts[key] <= LONGEST for key in ("steps", "apart", "patches"))
        and facts["apart"] in (1, len(names))
    )
