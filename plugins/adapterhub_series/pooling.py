"""From features of patches and channels to one vector a series."""

from __future__ import annotations

import torch
from torch import Tensor


def pool(hidden: Tensor, patches: str, channels: str, summary: bool) -> Tensor:
    """Pool the features of a series.

    Args:
        hidden: (batch, channels, patches, hidden_size)
        patches: "mean", "max", "last", "cls", "flatten", "mean+max" or "mean+last".
        channels: "concat" or "mean".
        summary: Whether the first patch is a token that stands for all of them.

    Returns:
        (batch, pooled_size)
    """
    own = hidden[:, :, 1:] if summary else hidden
    parts = []
    for how in patches.split("+"):
        match how:
            case "mean":
                parts.append(own.mean(dim=2))
            case "max":
                parts.append(own.amax(dim=2))
            case "last":
                parts.append(own[:, :, -1])
            case "cls":
                parts.append(hidden[:, :, 0])
            case _:
                parts.append(own.flatten(2))
    pooled = torch.cat(parts, dim=2)  # (batch, channels, parts * hidden_size)
    return pooled.mean(dim=1) if channels == "mean" else pooled.flatten(1)


def pooled_size(hidden_size: int, apart: int, patches: int, how: str, channels: str) -> int:
    """Numbers that `pool` gives a series of `apart` channels and `patches` patches beside a summary."""
    parts = patches if how == "flatten" else 1 + how.count("+")
    return hidden_size * parts * (1 if channels == "mean" else apart)


def levels_of(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and population standard deviation of each channel over the steps that were there.

    Args:
        values: (batch, time, channels)
        mask: Of the same shape, whether a value was there; None for all.

    Returns:
        (batch, 2 * channels) in fp32: all means, then all spreads; 0 for a channel without any value.
    """
    values = values.float()
    there = torch.ones_like(values) if mask is None else mask.float()
    count = there.sum(dim=1).clamp(min=1)  # (batch, channels)
    mean = (values * there).sum(dim=1) / count
    variance = ((values - mean[:, None]) ** 2 * there).sum(dim=1) / count
    return torch.cat([mean, variance.sqrt()], dim=1)
