"""What a saved LoRA adapter does to each weight of its base, worked out from its tensors without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from adapterhub_lora import LoraConfig
from adapterhub_lora.scales import rank_at, scale_at

FILE_PREFIX = "base_model.model."
# How tensors are called behind the path of the layer they belong to; those of an embedding are laid out transposed.
KINDS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_embedding_A": "embedding_A",
    ".lora_embedding_B": "embedding_B",
}

Update = Callable[[Tensor, bool], Tensor]


def by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]] | None:
    """Sort tensors by layer and kind; None where one is of a kind that is not known here."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        ending = next((ending for ending in KINDS if name.endswith(ending)), None)
        if ending is None or not name.startswith(FILE_PREFIX):
            return None
        path = name.removeprefix(FILE_PREFIX).removesuffix(ending)
        layers.setdefault(path, {})[KINDS[ending]] = tensor.float()
    return layers


def is_bias(name: str) -> bool:
    """Whether a tensor of an adapter's file is a trained bias of the base."""
    return name.endswith(".bias") and ".lora_" not in name


def weight_updates(tensors: Mapping[str, Tensor], config: LoraConfig) -> Mapping[str, Update] | None:
    """By name of the weight, the function that merges the adapter into it; None where only the model can tell."""
    layers = by_layer({name: tensor for name, tensor in tensors.items() if not is_bias(name)})
    if layers is None:
        return None
    updates: dict[str, Update] = {
        name.removeprefix(FILE_PREFIX).replace(".base_layer.", "."): _instead(tensor.float())
        for name, tensor in tensors.items()
        if is_bias(name)
    }
    for path, parts in layers.items():
        kinds, scale = set(parts), scale_at(config, path)
        if kinds == {"embedding_A", "embedding_B"}:
            updates[f"{path}.weight"] = _embedding(parts["embedding_A"], parts["embedding_B"], scale)
        elif len(parts.get("A", ())) not in (0, rank_at(config, path)):
            return None  # stacked experts
        elif kinds in ({"A", "B"}, {"A", "B", "magnitude"}) and parts["B"].shape[1] == parts["A"].shape[0]:
            updates[f"{path}.weight"] = _matrix(parts["A"], parts["B"], parts.get("magnitude"), scale)
        else:
            return None  # a grouped convolution, or DoRA on an embedding
    return updates


def _instead(bias: Tensor) -> Update:
    return lambda weight, transposed: bias


def _matrix(a: Tensor, b: Tensor, magnitude: Tensor | None, scale: float) -> Update:
    def update(weight: Tensor, transposed: bool) -> Tensor:
        plain = weight.T if transposed else weight  # (out_features, in_features[, height, width])
        # A convolution is a matrix whose inputs are the pixels of its window. In place from here on: weights are large.
        merged = (b.reshape(len(b), -1) @ a.reshape(len(a), -1)).reshape(plain.shape).mul_(scale).add_(plain)
        if magnitude is not None:
            # DoRA: the direction of the updated weight, each output's row of the learnt length.
            length = torch.linalg.vector_norm(merged.flatten(1), dim=1)  # (out_features,)
            merged.mul_((magnitude.flatten() / length).reshape(-1, *[1] * (merged.dim() - 1)))
        return merged.T if transposed else merged

    return update


def _embedding(a: Tensor, b: Tensor, scale: float) -> Update:
    def update(weight: Tensor, transposed: bool) -> Tensor:
        return weight + scale * (b @ a).T  # (vocabulary, hidden_size)

    return update
