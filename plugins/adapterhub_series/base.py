"""What a base for time series takes and gives, whichever it is."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.api import Base, ModelMap, NotSupportedError, counted, introspect

MASKS = ("past_observed_mask", "observed_mask")
"""What models call the booleans that say which values were there."""


def input_name(model: Any) -> str:
    """The argument that takes values, (batch, time, channels)."""
    return str(getattr(model, "main_input_name", None) or next(iter(inspect.signature(model.forward).parameters)))


def mask_name(model: Any) -> str | None:
    """The argument that takes which values were there, of the shape of the values; None where there is none."""
    taken = inspect.signature(model.forward).parameters
    return next((name for name in MASKS if name in taken), None)


def describe(model: Any) -> ModelMap:
    """Where things are in a PatchTST, a PatchTSMixer, or another model of transformers that is built like them.

    Raises:
        NotSupportedError: a model whose configuration does not say what it takes, or without repeated blocks.
    """
    config = model.config
    steps, channels = (getattr(config, name, None) for name in ("context_length", "num_input_channels"))
    if steps is None or channels is None:
        raise NotSupportedError(
            f"{type(model).__name__} does not say how many steps and channels it takes (context_length and "
            "num_input_channels of its config.json); use a PatchTST or a PatchTSMixer"
        )
    return introspect(model, "series", example={input_name(model): (1, steps, channels)})


def context_length(model: Any) -> int | None:
    """The number of steps that every series must have for this model; None where it takes any number."""
    length = getattr(getattr(model, "config", None), "context_length", None)
    return int(length) if length is not None else None


def scales_input(model: Any) -> bool:
    """Whether the model itself removes mean and spread from every series, so that its features do not hold them."""
    return bool(getattr(getattr(model, "config", None), "scaling", None))


def has_summary(model: Any) -> bool:
    """Whether the first of its patches is a token that stands for all of them."""
    return bool(getattr(getattr(model, "config", None), "use_cls_token", False))


def encode(base: Base, values: Tensor, mask: Tensor | None) -> Tensor:
    """Run a base on series of any number of channels.

    A base made for another number of channels, if it treats each apart, gets the channels of all series packed into
    series of as many channels as it takes.

    Args:
        base: With whatever is mounted on it.
        values: (batch, time, channels)
        mask: Of the same shape, whether a value was there; None where the base takes none.

    Returns:
        (batch, channels, patches, hidden_size); channels or patches are 1 where the base gives none apart.

    Raises:
        NotSupportedError: a base for another number of channels that treats them together.
    """
    model = base.model
    # While weights of the base train, its parameters are fp32 whatever it was loaded in.
    dtype = next(p for p in model.parameters() if p.is_floating_point()).dtype
    batch, _, channels = values.shape
    taken = _channels(base, channels)
    inputs = {input_name(model): values.to(dtype)}
    name = mask_name(model)
    if name is not None and mask is not None:
        inputs[name] = mask.to(dtype)
    if taken != channels:
        inputs = {key: _apart(value, taken) for key, value in inputs.items()}
    output = model(**inputs)
    hidden: Tensor = output if isinstance(output, Tensor) else output[0]
    if taken != channels:
        rows = hidden.flatten(0, 1)[: batch * channels]  # (batch * channels, patches, hidden_size)
        return rows.unflatten(0, (batch, channels))
    if hidden.dim() == 4:
        return hidden
    return hidden[:, None] if hidden.dim() == 3 else hidden[:, None, None]


def _channels(base: Base, given: int) -> int:
    """The number of channels to run the base with: its own, or that of the series where it takes any number."""
    config: Any = getattr(base.model, "config", None)
    taken = getattr(config, "num_input_channels", None)
    if taken is None or taken == given:
        return given
    kind = getattr(config, "model_type", "")
    apart = (kind == "patchtst" and config.share_embedding and not config.channel_attention) or (
        kind == "patchtsmixer" and config.mode == "common_channel"
    )
    if apart:
        return int(taken)
    raise NotSupportedError(
        f"'{base.reference}' was made for {counted(int(taken), 'channel')} and treats them together, so it cannot take "
        f"{given}; give it {taken} with --column channels=NAME,NAME or use a base that treats each channel apart "
        "(a PatchTST with share_embedding and without channel_attention, a PatchTSMixer of mode common_channel)"
    )


def _apart(values: Tensor, taken: int) -> Tensor:
    """(batch, time, channels) as (rows, time, taken): the channels of all series one after the other, then zeros."""
    rows = values.transpose(1, 2).flatten(0, 1)  # (batch * channels, time)
    missing = -len(rows) % taken
    if missing:
        rows = torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])
    return rows.unflatten(0, (-1, taken)).transpose(1, 2)
