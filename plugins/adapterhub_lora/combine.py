"""Several LoRA adapters of one base made into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from adapterhub_lite.api import Combination, NotSupportedError, Part, Recipe, check_choice
from adapterhub_lora.factors import Factors, combine_layer, factors_of, to_tensors

EXACT = ("linear", "cat")
METHODS = (*EXACT, "ties", "dare_linear", "dare_ties")


def combine(parts: Sequence[Part], recipe: Recipe) -> Combination:
    """Combine the updates of LoRA adapters layer by layer.

    With the update of adapter i being s_i B_i A_i, `linear` and `cat` give exactly sum_i w_i s_i B_i A_i, by laying the
    factors side by side: ranks add up, and adapters may differ in rank, scale and targets. `ties` (Yadav et al. 2023,
    arXiv:2306.01708), `dare_linear` and `dare_ties` (Yu et al. 2023, arXiv:2311.03099) work on the entries of the updates
    themselves, whose result is factored anew by a singular value decomposition. A layer that only some adapters have
    keeps the updates of those.

    Raises:
        ConfigError: another method.
        NotSupportedError: adapters that do not add up, with the reason.
    """
    check_choice("method", recipe.method, METHODS)
    if len(parts) == 1:
        if recipe.method not in EXACT:
            raise NotSupportedError(
                f"{recipe.method} settles between adapters, and there is one: it would only lose a part of it; use linear"
            )
        if parts[0].weight == 1 and recipe.rank is None:  # bit for bit, DoRA and all
            config = parts[0].config
            rank = max([config.rank, *config.rank_pattern.values()])
            return Combination(config.model_dump(), parts[0].tensors, rank, 0.0)
    for part in parts:
        if part.config.bias != "none":
            raise NotSupportedError(
                f"{part.name} trains biases of the base too (bias={part.config.bias}), and combining is for updates; merge "
                "it into the base, or train with bias=none"
            )
        if part.config.dora and len(parts) > 1:
            raise NotSupportedError(
                f"{part.name} is a DoRA adapter: its magnitudes rescale the whole weight, so updates of several cannot be "
                "added; merge each into the base, or train without dora"
            )
    layers = [(part.weight, factors_of(part.config, part.tensors)) for part in parts]
    combined, lost = _by_layer(layers, recipe)
    rank = max(factors.rank for factors in combined.values())
    # The scale is in the factors: alpha equal to the rank multiplies by 1.
    scale = {"rank": rank, "alpha": float(rank), "rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    where = {"targets": ",".join(sorted(combined)), "top_layers": None}
    settings = {**parts[0].config.model_dump(), **scale, **where}
    return Combination(settings, to_tensors(combined, rank), rank, lost)


def _by_layer(
    layers: Sequence[tuple[float, Mapping[str, Factors]]], recipe: Recipe
) -> tuple[dict[str, Factors], float]:
    """The combined factors of each layer, and the largest share of an update that was cut off."""
    generator = torch.Generator().manual_seed(recipe.seed)
    combined, lost = {}, 0.0
    # In an order that depends on the names alone: the seed decides what is dropped.
    for path in sorted({path for _, factors in layers for path in factors}):
        parts = [(weight, factors[path]) for weight, factors in layers if path in factors]
        combined[path], share = combine_layer(path, parts, recipe.method, recipe.density, recipe.rank, generator)
        lost = max(lost, share)
    return combined, lost
