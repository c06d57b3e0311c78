"""Rank and scale of each layer's update, by the options of an adapter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from adapterhub_lora import LoraConfig


def alpha_of(config: LoraConfig) -> float:
    """The option `alpha`; twice the rank where it is not set."""
    return _whole(config.alpha if config.alpha is not None else 2 * config.rank)


def scale_of(rank: int, alpha: float, *, rslora: bool) -> float:
    """What the product of the two factors is multiplied by."""
    return alpha / (math.sqrt(rank) if rslora else rank)


def rank_at(config: LoraConfig, path: str) -> int:
    """The rank of the update of the layer at a path."""
    return int(by_pattern(config.rank_pattern, path, config.rank))


def alpha_at(config: LoraConfig, path: str) -> float:
    """The alpha of the update of the layer at a path."""
    return _whole(by_pattern(config.alpha_pattern, path, alpha_of(config)))


def scale_at(config: LoraConfig, path: str) -> float:
    """What the product of the factors of the layer at a path is multiplied by."""
    return scale_of(rank_at(config, path), alpha_at(config, path), rslora=config.rslora)


def by_pattern(patterns: Mapping[str, float], path: str, default: float) -> float:
    """The value of the first pattern that fits a path, as PEFT reads them: a regular expression for its end."""
    return next((value for pattern, value in patterns.items() if fits(pattern, path)), default)


def fits(pattern: str, path: str) -> bool:
    """Whether a pattern fits the end of a path.

    Raises:
        re.error: it is no regular expression.
    """
    return re.match(rf"(.*\.)?({pattern})$", path) is not None


def settled(config: LoraConfig, paths: Sequence[str]) -> LoraConfig:
    """The same ranks and scales with a pattern for each layer, whose order no longer matters: JSON may be sorted."""
    ranks = {pattern_of(path): rank_at(config, path) for path in paths}
    alphas = {pattern_of(path): alpha_at(config, path) for path in paths}
    own = {
        "rank_pattern": {pattern: rank for pattern, rank in ranks.items() if rank != config.rank},
        "alpha_pattern": {pattern: alpha for pattern, alpha in alphas.items() if alpha != alpha_of(config)},
    }
    return config.model_copy(update=own)


def pattern_of(path: str) -> str:
    """The pattern that fits one path and no other."""
    return f"^{path}"


def _whole(number: float) -> float:
    return int(number) if float(number).is_integer() else number
