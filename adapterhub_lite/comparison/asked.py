"""What is to be compared, checked without data and without a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.training.config import TrainConfig

OF_HEADS, OF_LANGUAGE = ("linear_probe", "lora", "full"), ("prefix", "lora", "full")
"""Strategies that are compared where none is named."""


@dataclass(frozen=True)
class Asked:
    """What is to be compared."""

    strategies: Sequence[str] | None = None
    """Names; None for those that suit the task."""
    settings: Mapping[str, Any] | None = None
    """Options of strategies, as in {"lora.rank": 4}."""
    config: TrainConfig | None = None
    baselines: bool = True


def check_asked(engine: Engine, asked: Asked) -> dict[str, dict[str, Any]]:
    """The options of each strategy that is named, by its name; needs neither data nor base.

    Raises:
        StrategyNotFoundError: no such strategy; names those there are.
        ConfigError: an option that cannot be used, or is not said of which strategy.
    """
    named = list(dict.fromkeys(asked.strategies or (*OF_HEADS, *OF_LANGUAGE)))
    options: dict[str, dict[str, Any]] = {name: {} for name in named}
    for key, value in (asked.settings or {}).items():
        name, dot, option = key.rpartition(".")
        if not dot or name not in options:
            raise ConfigError(
                f"--set {key}={value}: say of which strategy, as in --set lora.rank=4; compared are {', '.join(named)}"
            )
        options[name][option] = value
    for name in asked.strategies or ():
        engine.strategy_shelf.configure(engine.strategy_shelf.resolve(name), options[name])
    config = asked.config or TrainConfig()
    for option in ("eval_every", "patience", "checkpoint_every", "shard"):
        if getattr(config, option):
            raise ConfigError(
                f"--{option.replace('_', '-')} does not go with a comparison, which scores what it trains at the end; leave it "
                "out, or train one strategy by its name"
            )
    return options
