"""A base without the values of its weights, and where in its files each weight is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.base.model_files import calm, model_class
from adapterhub_lite.storage.header import TensorInfo


@dataclass(frozen=True)
class Skeleton:
    """What is known of a model before any weight is read."""

    shapes: dict[str, tuple[int, ...]]
    transposed: frozenset[str]
    """Weights of `Conv1D` layers (GPT-2), which lie as (in_features, out_features)."""
    tied: dict[str, tuple[str, ...]]
    """For each weight that has several names, all of them."""
    model: Any
    """The model on the meta device, which takes no memory for weights."""
    names: frozenset[str]
    """Of everything that the model keeps in files: weights, and buffers such as running means."""

    def name_of(self, key: str) -> str | None:
        """What one tensor of a file becomes; None where that takes several tensors, or the model has no such tensor."""
        name, converted = self._renamed(key)
        return self._spelled(name) if not converted else None

    def converts(self, key: str) -> bool:
        """Whether a tensor of a file becomes a part of a weight that is laid out otherwise in the model."""
        name, converted = self._renamed(key)
        return converted and self._spelled(name) is not None

    def _renamed(self, key: str) -> tuple[str, bool]:
        """A tensor's name as this version of transformers has it, and whether it is converted while it is loaded."""
        try:
            from transformers.conversion_mapping import get_model_conversion_mapping
            from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
        except ImportError:  # another version; names that need no translation are still found
            return key, False
        transforms = get_model_conversion_mapping(self.model)
        renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
        converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
        name, conversion = rename_source_key(key, renamings, converters)
        return name, conversion is not None

    def _spelled(self, key: str) -> str | None:
        """The name as the model has it, which may be with or without the prefix that a head adds."""
        prefix = self.model.base_model_prefix
        spellings = (key, f"{prefix}.{key}", key.removeprefix(f"{prefix}."))
        return next((spelling for spelling in spellings if spelling in self.names), None)


def skeleton_of(folder: Path, *, trust_remote_code: bool = False) -> Skeleton:
    """Build the model of a folder without its weights."""
    from transformers import AutoConfig

    with calm(), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        model: Any = model_class(config).from_config(config, trust_remote_code=trust_remote_code)
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return Skeleton(
        shapes={name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)},
        transposed=frozenset(f"{n}.weight" for n, m in model.named_modules() if type(m).__name__ == "Conv1D"),
        tied={name: tuple(group) for group in names.values() if len(group) > 1 for name in group},
        model=model,
        names=frozenset(model.state_dict()),
    )


def place_in_files(
    names: Iterable[str], skeleton: Skeleton, headers: Mapping[Path, Mapping[str, TensorInfo]]
) -> dict[tuple[Path, str], str] | None:
    """Find the file and tensor of each weight.

    Returns:
        Names of weights by file and name of the tensor there; a tied weight may be in several places. None where a
        weight is laid out otherwise in the files than in the model, so that it cannot be merged in the files.
    """
    stored: dict[str, list[tuple[Path, str]]] = {}
    for path, header in headers.items():
        for key, info in header.items():
            name = skeleton.name_of(key)
            if name in skeleton.shapes and info.shape == skeleton.shapes[name]:
                stored.setdefault(name, []).append((path, key))
    places: dict[tuple[Path, str], str] = {}
    for name in names:
        places_of_name = [place for alias in skeleton.tied.get(name, (name,)) for place in stored.get(alias, [])]
        if not places_of_name:
            return None
        places |= dict.fromkeys(places_of_name, name)
    return places
