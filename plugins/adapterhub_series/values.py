"""Series as a base takes them: nothing missing, normalised, all of one length. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
CHUNK = 4096  # series measured together


@dataclass(frozen=True)
class Scales:
    """Each channel of the training data, in its own units."""

    mean: Array
    """(channels,) float64; 0 for a channel without any value."""
    spread: Array
    """(channels,) float64: the population standard deviation; 1 for a channel that never changes."""


def measure(series: Sequence[Array]) -> Scales:
    """Mean and spread of each channel over all steps of all series, (time, channels) each; missing values left out."""
    count: Array = np.zeros(series[0].shape[1])
    mean, squares = np.zeros_like(count), np.zeros_like(count)
    for start in range(0, len(series), CHUNK):
        part = np.concatenate(series[start : start + CHUNK]).astype(np.float64)  # (steps, channels)
        there = ~np.isnan(part)
        n = there.sum(axis=0)
        part_mean = np.where(there, part, 0).sum(axis=0) / np.maximum(n, 1)
        deviations = np.where(there, part - part_mean, 0)
        total = count + n
        # Two parts put together without the loss of digits that sums of squares have (Chan et al. 1979).
        share = n / np.maximum(total, 1)
        squares += (deviations**2).sum(axis=0) + (part_mean - mean) ** 2 * count * share
        mean += (part_mean - mean) * share
        count = total
    spread = np.sqrt(squares / np.maximum(count, 1))
    # Values are float32: around a mean of a million, differences below the last bit are no spread.
    return Scales(mean, np.where(spread > 2e-7 * np.abs(mean), spread, 1.0))


def prepare(
    series: Sequence[Array],
    scales: Scales,
    *,
    steps: int,
    resample: Literal["resample", "pad", "last"],
    normalize: Literal["channel", "series", "none"],
) -> tuple[Array, Array]:
    """Put series into one array.

    Args:
        series: Each (time, channels), NaN where a value is missing.
        scales: Of the training data.
        steps: The length that each will have.
        resample: How a series of another length is fitted to `steps`; see `SeriesOptions`.
        normalize: Which mean and spread values are normalised by; see `SeriesOptions`.

    Returns:
        (series, steps, channels) float32 values, and the same of booleans: whether a value was there, and is not made up.
    """
    values = np.empty((len(series), steps, series[0].shape[1]), dtype=np.float32)
    observed = np.empty(values.shape, dtype=bool)
    lengths = np.array([len(one_series) for one_series in series])
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        whole = np.stack([series[row] for row in rows.tolist()]).astype(np.float64)  # (rows, time, channels)
        there = ~np.isnan(whole)
        if not there.all():
            whole = fill(whole, there, scales.mean)
        whole = _normalized(whole, there, scales, normalize)
        values[rows], observed[rows] = fit(whole, there, steps, resample)
    return values, observed


def fill(values: Array, there: Array, mean: Array) -> Array:
    """Fill in missing values by linear interpolation over time; values are (rows, time, channels).

    Before its first value a channel has that value, and after its last value that one. A channel of a row without any
    value gets the mean of the channel in the training data.
    """
    filled = values.copy()
    steps = np.arange(values.shape[1])
    for row, channel in zip(*np.nonzero(~there.all(axis=1)), strict=True):
        known = there[row, :, channel]
        line = values[row, :, channel]
        filled[row, :, channel] = np.interp(steps, steps[known], line[known]) if known.any() else mean[channel]
    return filled


def _normalized(values: Array, there: Array, scales: Scales, how: str) -> Array:
    if how == "none":
        return values
    if how == "channel":
        return np.asarray((values - scales.mean) / scales.spread)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)  # (rows, 1, channels)
    mean = np.where(there, values, 0).sum(axis=1, keepdims=True) / count
    mean = np.where(there.any(axis=1, keepdims=True), mean, values[:, :1])  # a channel without any value: as filled
    spread = np.sqrt((np.where(there, values - mean, 0) ** 2).sum(axis=1, keepdims=True) / count)
    return np.asarray((values - mean) / np.where(spread > 2e-7 * np.abs(mean), spread, 1.0))


def fit(values: Array, there: Array, steps: int, how: str) -> tuple[Array, Array]:
    """Bring series of one length, (rows, time, channels), and the booleans of their observed values to `steps` steps."""
    length = values.shape[1]
    if length == steps:
        return values, there
    if length > steps and how == "last":
        return values[:, -steps:], there[:, -steps:]
    if length < steps and how != "resample":
        lead = steps - length
        padded = np.concatenate([np.repeat(values[:, :1], lead, axis=1), values], axis=1)
        return padded, np.pad(there, ((0, 0), (lead, 0), (0, 0)))
    places = np.linspace(0, length - 1, steps)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    share = (places - low)[:, None]  # (steps, 1)
    between = values[:, low] * (1 - share) + values[:, high] * share
    return between, there[:, low] & (there[:, high] | (share == 0))
