"""From features of tokens or pixels to one vector an example."""

from __future__ import annotations

import torch
from torch import Tensor


def pool(hidden: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Pool features in fp32.

    Args:
        hidden: (batch, tokens, hidden_size), or (batch, channels, height, width) of a convolutional network.
        mask: (batch, tokens), 1 for real tokens; None where all are.
        how: "cls", "mean", "last" or "spatial".

    Returns:
        (batch, hidden_size) in fp32.
    """
    hidden = hidden.float()
    if hidden.dim() == 4:
        return hidden.mean(dim=(2, 3))
    if how == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden[:, -1] if how == "last" else hidden.mean(dim=1)
    if how == "last":
        # Right for padding on either side: the place of the last 1.
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.unsqueeze(-1).float()  # (batch, tokens, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
