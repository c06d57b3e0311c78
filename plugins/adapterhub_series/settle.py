"""Deciding, before training, how the series of a dataset become features on a base."""

from __future__ import annotations

import torch

from adapterhub_lite.api import Base, ConfigError, Dataset, NotSupportedError, Preprocessing, counted
from adapterhub_series import base as series_base
from adapterhub_series.inputs import SeriesInputs, channel_names, check_windows
from adapterhub_series.options import WHOLE, WINDOWS, SeriesOptions
from adapterhub_series.values import measure


def settle_series(base: Base, data: Dataset, options: SeriesOptions) -> Preprocessing:
    """Channels, their scales, the number of steps, and what the features of the base look like.

    All options are recorded, also those left at their default, so that a later change of a default changes no adapter.

    Raises:
        ConfigError: an option that this base or data cannot follow.
        NotSupportedError: a base that cannot take this data.
    """
    check_windows(data, options)
    if getattr(base.model, "do_mask_input", False):
        raise NotSupportedError(
            f"'{base.reference}' hides a part of its input at random, as in its pre-training; "
            "load it with load_base, or set do_mask_input to false in its config.json"
        )
    summary = series_base.has_summary(base.model)
    if options.patch_pooling == "cls" and not summary:
        raise ConfigError(f"patch_pooling=cls: '{base.reference}' has no such token; use mean, max, last or flatten")
    channels = channel_names(data)
    steps = series_base.context_length(base.model) or max(len(values) for values in data.inputs)
    apart, patches = _layout(base, steps, len(channels))
    settled = options.model_copy(
        update={
            "patch_pooling": options.patch_pooling or ("cls" if summary else "mean"),
            "levels": options.levels
            if options.levels is not None
            else options.normalize == "channel" and series_base.scales_input(base.model),
        }
    )
    inputs = SeriesInputs(settled, channels, measure(data.inputs), steps, apart, patches - summary)
    return Preprocessing(
        form=WHOLE if options.window is None else WINDOWS,
        options=settled.model_dump(mode="json"),
        facts={"series": inputs.record()},
    )


def _layout(base: Base, steps: int, channels: int) -> tuple[int, int]:
    """Channels and patches that the base gives features for, found by running it once."""
    try:
        with torch.no_grad():
            zeros = torch.zeros(1, steps, channels, device=base.device)
            hidden = series_base.encode(base, zeros, torch.ones_like(zeros))
    except (ValueError, TypeError) as error:
        raise NotSupportedError(
            f"'{base.reference}' does not take series of {steps} steps and {counted(channels, 'channel')}: {error}"
        ) from error
    if hidden.shape[-1] != base.map.hidden_size or hidden.shape[1] not in (1, channels):
        raise NotSupportedError(
            f"'{base.reference}' gives features of shape {tuple(hidden.shape)} for {counted(channels, 'channel')}, where "
            f"(1, {channels}, patches, {base.map.hidden_size}) or (1, patches, {base.map.hidden_size}) is needed"
        )
    return hidden.shape[1], hidden.shape[2]
