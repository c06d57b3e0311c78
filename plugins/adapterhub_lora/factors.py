"""Low-rank updates of layers, and how several of one layer become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterhub_lite.api import NotSupportedError
from adapterhub_lora import LoraConfig
from adapterhub_lora.scales import rank_at, scale_at
from adapterhub_lora.updates import FILE_PREFIX


@dataclass(frozen=True)
class Factors:
    """An update B A of one layer, its scale included."""

    a: Tensor  # (rank, in_features[, height, width])
    b: Tensor  # (out_features, rank[, 1, 1])

    @property
    def rank(self) -> int:
        return len(self.a)

    def product(self) -> Tensor:
        """The update as a matrix: (out_features, in_features * height * width)."""
        return self.b.flatten(1) @ self.a.flatten(1)


def factors_of(config: LoraConfig, tensors: Mapping[str, Tensor]) -> dict[str, Factors]:
    """The factors of each layer of a LoRA adapter, by its path, its scale put into B.

    Raises:
        NotSupportedError: a layer with other tensors than A and B.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        path, _, kind = name.removeprefix(FILE_PREFIX).rpartition(".lora_")
        if kind not in ("A.weight", "B.weight"):
            raise NotSupportedError(f"tensor '{name}' is no factor of a plain LoRA update, so it cannot be combined")
        halves.setdefault(path, {})[kind[0]] = tensor.float()
    for path, half in halves.items():
        if len(half["A"]) != rank_at(config, path):
            raise NotSupportedError(
                f"the update of '{path}' is of several experts, and such updates cannot be combined"
            )
    return {path: Factors(half["A"], scale_at(config, path) * half["B"]) for path, half in halves.items()}


def to_tensors(layers: Mapping[str, Factors], rank: int) -> dict[str, Tensor]:
    """Name factors as PEFT does, filled up with zeros to one rank."""
    tensors: dict[str, Tensor] = {}
    for path, factors in layers.items():
        a = factors.a.new_zeros((rank, *factors.a.shape[1:]))
        b = factors.b.new_zeros((len(factors.b), rank, *factors.b.shape[2:]))
        a[: factors.rank], b[:, : factors.rank] = factors.a, factors.b
        tensors |= {f"{FILE_PREFIX}{path}.lora_A.weight": a, f"{FILE_PREFIX}{path}.lora_B.weight": b}
    return tensors


def combine_layer(
    path: str,
    parts: Sequence[tuple[float, Factors]],
    method: str,
    density: float,
    rank: int | None,
    generator: torch.Generator,
) -> tuple[Factors, float]:
    """Combine the updates of one layer.

    Returns:
        The factors, and the share of the update that their rank had no room for.

    Raises:
        NotSupportedError: updates of different shapes.
    """
    shapes = {(f.a.shape[1:], f.b.shape[0], f.b.shape[2:]) for _, f in parts}
    if len(shapes) > 1:
        raise NotSupportedError(
            f"the adapters' updates of '{path}' have different shapes, so they are of different bases"
        )
    side_by_side = Factors(torch.cat([f.a for _, f in parts]), torch.cat([w * f.b for w, f in parts], dim=1))
    if method in ("linear", "cat"):
        if rank is None or side_by_side.rank <= rank:
            return side_by_side, 0.0
        return _factor(side_by_side.product(), rank, side_by_side)
    updates = torch.stack([f.product() for _, f in parts])  # (adapters, out, in)
    weights = torch.tensor([weight for weight, _ in parts])[:, None, None]
    if method.startswith("dare"):
        kept = torch.rand(updates.shape, generator=generator) < density
        updates = updates * kept / density  # the mean stays what it was
    else:
        updates = _largest(updates, density)
    weighted = weights * updates
    combined = weighted.sum(dim=0) if method == "dare_linear" else _agreeing(weighted, weights)
    return _factor(combined, rank or side_by_side.rank, side_by_side)


def _largest(updates: Tensor, density: float) -> Tensor:
    """Keep the share of each update's entries that are largest in size."""
    flat = updates.flatten(1)
    count = max(1, round(density * flat.shape[1]))
    kept = torch.zeros_like(flat).scatter_(1, flat.abs().topk(count, dim=1).indices, 1.0)
    return (flat * kept).reshape(updates.shape)


def _agreeing(weighted: Tensor, weights: Tensor) -> Tensor:
    """TIES: by entry, the sign that has more weight, and the weighted mean of those that have it, times all weights."""
    sign = weighted.sum(dim=0).sign()
    agree = (weighted.sign() == sign) & (weighted != 0)
    present = (weights.abs() * agree).sum(dim=0)
    return (weighted * agree).sum(dim=0) / present.clamp(min=torch.finfo(torch.float32).tiny) * weights.abs().sum()


def _factor(update: Tensor, rank: int, like: Factors) -> tuple[Factors, float]:
    """The best factors of a rank (Eckart and Young 1936), and the share of the update they leave out."""
    u, s, v = torch.linalg.svd(update, full_matrices=False)
    root = s[:rank].sqrt()
    a = (root[:, None] * v[:rank]).reshape(-1, *like.a.shape[1:])
    b = (u[:, :rank] * root).reshape(len(u), -1, *like.b.shape[2:])
    whole = float(s.norm())
    return Factors(a.contiguous(), b.contiguous()), float(s[rank:].norm()) / whole if whole else 0.0
