"""The options of a strategy, each moved away from its default."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.plugins.strategy_call import StrategyFault
from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.check import Check, CheckFailed, CheckSkipped, demand


def check_options(bench: Bench) -> None:
    """With each option moved away from its default it attaches and trains a step, or says why it does not."""
    adapted = next((m for m in bench.others if replace(bench, model=m).refusal is None), None)
    if adapted is None:
        raise CheckSkipped("the strategy adapts none of the models")
    here = replace(bench, model=adapted)
    here.train(here.attach(here.base()), 1)  # what fails with the defaults is for the other checks
    for name, config in variants(bench.config):
        what = f"with {name}={getattr(config, name)!r} on {adapted.name}"
        try:
            attachment = here.attach(here.base(), config=config)
            here.train(attachment, 1)
            finite = bool(here.predictions(attachment).isfinite().all())
        except Exception as error:
            if isinstance(error, AdapterHubError) and not isinstance(error, StrategyFault):
                continue  # refused, in the strategy's own words
            raise CheckFailed(f"{what}: {type(error).__name__}: {error}") from error
        demand(finite, f"{what}, outputs after a training step are not finite")


def variants(config: StrategyConfig) -> Iterator[tuple[str, StrategyConfig]]:
    """Configs that differ from one in a single option, with its name: every choice it leaves, or another number."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        kinds = get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        choices += [True, False] if bool in kinds else []
        for choice in choices:
            if choice != value:
                yield from _changed(config, name, choice)
        for number in _numbers(value, kinds):
            other = next(_changed(config, name, number), None)
            if other is not None:
                yield other
                break


def _changed(config: StrategyConfig, name: str, value: Any) -> Iterator[tuple[str, StrategyConfig]]:
    """The config with one option set anew; nothing where it does not allow that."""
    try:
        yield name, type(config).model_validate({**config.model_dump(), name: value})
    except ValueError:
        return


def _numbers(value: Any, kinds: tuple[Any, ...]) -> list[float]:
    """Numbers to try instead of the value of an option that may be these kinds of things."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 2, value / 2] if value else [0.1, 1.0]
    return [1, 2] if value is None and (int in kinds or float in kinds) else []


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _has_options(bench: Bench) -> str | None:
    """The config has options that are numbers, choices or truth values."""
    return None if next(variants(bench.config), None) is not None else "there is no option to move"


CHECKS = (Check(check_options, _has_options, on="strategy"),)
