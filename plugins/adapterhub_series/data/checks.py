"""Checks of series from any source, and notes on what they hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adapterhub_lite.api import DataError, counted, did_you_mean, shortened
from adapterhub_series.data.collected import Array, Collected

CHUNK = 4096  # series looked at together


def check_series(collected: Collected, least: int) -> tuple[str, ...]:
    """Notes about lengths, missing values and channels that never change.

    Raises DataError at the first series with fewer than `least` steps, or without any value.
    """
    lengths = np.array([len(values) for values in collected.values])
    short = np.flatnonzero(lengths < least)
    if len(short):
        where = collected.table.where(int(short[0]))
        more = f" (and {counted(len(short) - 1, 'more series', 'more series')} like it)" if len(short) > 1 else ""
        raise DataError(f"{where}: its series has {counted(int(lengths[short[0]]), 'step')}, and needs {least}{more}")
    channels = len(collected.channels)
    low: Array = np.full(channels, np.nan)
    high: Array = np.full(channels, np.nan)
    absent, holes = 0, 0
    for start in range(0, len(lengths), CHUNK):
        part = np.concatenate(collected.values[start : start + CHUNK])  # (steps, channels)
        low = np.fmin(low, np.fmin.reduce(part, axis=0))
        high = np.fmax(high, np.fmax.reduce(part, axis=0))
        nan = np.isnan(part)
        if not nan.any():
            continue
        starts = np.concatenate([[0], np.cumsum(lengths[start : start + CHUNK])[:-1]])
        missing_per_series = np.add.reduceat(nan.sum(axis=1), starts)
        empty = np.flatnonzero(missing_per_series == lengths[start : start + CHUNK] * channels)
        if len(empty):
            where = collected.table.where(start + int(empty[0]))
            raise DataError(f"{where}: all values of its series are missing; remove it")
        absent += int(missing_per_series.sum())
        holes += int(np.count_nonzero(missing_per_series))
    return _notes(collected, lengths, absent, holes, low, high)


def _notes(collected: Collected, lengths: Array, absent: int, holes: int, low: Array, high: Array) -> tuple[str, ...]:
    shortest, longest = int(lengths.min()), int(lengths.max())
    steps = f"{shortest} steps" if shortest == longest else f"{shortest} to {longest} steps"
    notes = [f"{len(lengths)} series of {steps}, {counted(len(collected.channels), 'channel')}"]
    if absent:
        share = absent / (int(lengths.sum()) * len(collected.channels))
        notes.append(
            f"{counted(absent, 'value')} missing ({share:.2%}), in {counted(holes, 'series', 'series')}; kept as missing"
        )
    empty = [name for name, value in zip(collected.channels, low, strict=True) if np.isnan(value)]
    if empty:
        notes.append(f"no value in {counted(len(empty), 'channel')}: {shortened(empty)}")
    same = [name for name, a, b in zip(collected.channels, low, high, strict=True) if a == b]
    if same:
        notes.append(f"the same value everywhere in {counted(len(same), 'channel')}: {shortened(same)}")
    return tuple(notes)


def pick_channels(collected: Collected, wanted: tuple[str, ...]) -> Collected:
    """The series with the channels named, in that order; for files that name channels, or number them."""
    unknown = next((name for name in wanted if name not in collected.channels), None)
    if unknown is not None:
        raise DataError(
            f"{collected.table.source}: has no channel {unknown!r}{did_you_mean(unknown, collected.channels)}; "
            f"it has {shortened(collected.channels)}"
        )
    if wanted == collected.channels:
        return collected
    positions = [collected.channels.index(name) for name in wanted]
    return replace(collected, values=[values[:, positions] for values in collected.values], channels=wanted)
