"""The half of LoReFT that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from adapterhub_lite.api import ConfigError, ModelView
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_lite_reft import ReftConfig


class Reft:
    """h + Rᵀ(Wh + b - Rh) on the output of each chosen layer: R has orthonormal rows, W and b are free.

    The paper changes a few positions at the start and end of the prompt. Here every position is changed, by itself:
    what is done to a token depends on no other, so padding on either side, cached and uncached generation and
    recomputed activations agree without special care. W starts as R, so that a fresh adapter changes nothing.
    """

    def attach(self, view: ModelView, config: ReftConfig) -> Mapping[str, nn.Parameter]:
        """Put an intervention behind each chosen layer.

        Raises:
            ConfigError: a layer the model does not have, or a rank above the width of its hidden states.
        """
        width, depth = view.map.hidden_size, len(view.map.layers)
        if config.rank > width:
            raise ConfigError(f"reft: rank={config.rank} is more than the {width} dimensions of the hidden states")
        asked = config.layers if config.layers is not None else tuple(range(depth))
        if bad := [index for index in asked if not -depth <= index < depth]:
            raise ConfigError(f"reft: layers={bad} do not exist; the model has {depth}, from 0 to {depth - 1}")
        parameters: dict[str, nn.Parameter] = {}
        for index in sorted({index % depth for index in asked}):
            raw = torch.randn(width, config.rank).to(view.device)  # drawn on the CPU: the same on every device
            tensors = {"basis": raw, "weight": _rows(raw), "bias": torch.zeros(config.rank, device=view.device)}
            mine = {name: nn.Parameter(tensor) for name, tensor in tensors.items()}
            parameters |= {f"reft.{index}.{name}": parameter for name, parameter in mine.items()}
            view.after(view.map.layers[index], _intervention(**mine))
        return parameters


def _rows(basis: Tensor) -> Tensor:
    """An orthonormal basis of the columns of a matrix, as rows: (hidden, rank) to (rank, hidden)."""
    orthonormal: Tensor = torch.linalg.qr(basis).Q
    return orthonormal.T.contiguous()


def _intervention(basis: nn.Parameter, weight: nn.Parameter, bias: nn.Parameter) -> Callable[[Tensor], Tensor]:
    def change(hidden: Tensor) -> Tensor:  # (batch, tokens, hidden)
        h, rotation = hidden.float(), _rows(basis)
        # W h and R h apart, not (W - R) h: at the start both are the same numbers, and their difference exactly zero.
        wanted = functional.linear(h, weight, bias) - functional.linear(h, rotation)  # (batch, tokens, rank)
        return (h + wanted @ rotation).to(hidden.dtype)

    return change
