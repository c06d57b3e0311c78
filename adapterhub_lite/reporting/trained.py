"""What was trained, layer by layer: how many weights, and how far they moved the base's, which says where learning happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.strategy import Exporter, WeightUpdater
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.reporting.known import Known

ELSEWHERE = "elsewhere"


def trained(known: Known) -> dict[str, Any]:
    """Weights that trained by layer, with the size of the change that they make to the base's weights where it is known."""
    adapter, attachment = known.adapter, known.adapter.attachment
    layers = attachment.base.map.layers
    weights: dict[str, int] = {}
    for name, parameter in attachment.parameters.items():
        place = _layer(name, layers)
        weights[place] = weights.get(place, 0) + parameter.numel()
    moved = _moved(known) if attachment.parameters else {}
    by_layer = []
    for number in [*map(str, range(1, len(layers) + 1)), ELSEWHERE]:
        own = [change for name, change in moved.items() if _layer(name, layers) == number]
        if number not in weights and not own:
            continue
        row: dict[str, Any] = {"layer": number, "weights": weights.get(number, 0), "update": None, "base": None}
        if own:
            row["update"], row["base"] = (sum(change[i] ** 2 for change in own) ** 0.5 for i in (0, 1))
        by_layer.append(row)
    head = attachment.head
    return {
        "weights": adapter.trainable,
        "of_base": attachment.base.parameters,
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in attachment.tensors.values()),
        "head": sum(parameter.numel() for parameter in head.parameters()) if head is not None else 0,
        "layers": by_layer,
    }


def _instead(new: Tensor) -> Callable[[Tensor, bool], Tensor]:
    return lambda weight, transposed: new.to(weight)


def _layer(name: str, layers: tuple[str, ...]) -> str:
    """The number of the layer, from 1, that a weight belongs to."""
    for number, path in enumerate(layers, start=1):
        if f".{path}." in f".{name}.":
            return str(number)
    counted = re.search(r"(?:^|\D)(\d+)(?:\D|$)", name)  # as in "layers.3.keys"
    if counted is not None and int(counted[1]) < len(layers):
        return str(int(counted[1]) + 1)
    return ELSEWHERE


def _moved(known: Known) -> dict[str, tuple[float, float]]:
    """By name of a base's weight the Frobenius norms of its change and of itself; nothing where only running it tells."""
    attachment = known.adapter.attachment
    if attachment.base.shards is not None:
        return {}
    strategy, config = attachment.strategy, attachment.config
    own: Mapping[str, Tensor] = {name: parameter.detach() for name, parameter in attachment.parameters.items()}
    try:
        if attachment.traits.trains_base:
            changes: Mapping[str, Callable[[Tensor, bool], Tensor]] = {
                name: _instead(tensor) for name, tensor in own.items()
            }
        elif isinstance(strategy, WeightUpdater):
            if isinstance(strategy, Exporter):
                config, own = strategy.export(attachment.view, config, own)
            changes = strategy.updates(config, own) or {}
        else:
            return {}
    except AdapterHubError as error:
        known.left_out.append(f"how far weights moved is not known: {error}")
        return {}
    moved: dict[str, tuple[float, float]] = {}
    with torch.no_grad(), attachment.without() as base:
        for name, change in changes.items():
            if known.seconds_left < 0:
                known.left_out.append(f"how far weights moved is measured of {len(moved)} of {len(changes)} alone")
                break
            path, _, kind = name.rpartition(".")
            module = base.model.get_submodule(path)
            weight = (attachment.view.weight(path) if kind == "weight" else getattr(module, kind)).float()
            changed = change(weight.clone(), type(module).__name__ == "Conv1D").float()
            moved[name] = float((changed - weight).norm()), float(weight.norm())
    return moved
