"""Checking a run before a model is loaded, for the command line and the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import Modality, Provided, ProvidedStrategy, StrategyConfig, StrategySpec
from adapterhub_lite.tasks.spec import TaskOptions, TaskSpec
from adapterhub_lite.training.config import TrainConfig


@dataclass(frozen=True)
class CheckedRun:
    """Strategy, task and options of a run that `check_run` has checked."""

    strategy: ProvidedStrategy
    settings: StrategyConfig
    task: Provided[TaskSpec]
    task_options: TaskOptions
    config: TrainConfig
    picks_step: bool = False
    """Its held-out rows are of its own data, there to choose the best step by, and no test."""


def check_run(
    strategy_shelf: Shelf[StrategySpec],
    task_shelf: Shelf[TaskSpec],
    *,
    strategy: str,
    settings: Mapping[str, Any],
    task: str,
    task_options: Mapping[str, Any],
    config: TrainConfig,
    quantization: str,
    held_out: bool,
    from_scratch: bool = False,
    picks_step: bool = False,
) -> CheckedRun:
    """Check everything about a run that can be known without its data and its base.

    Strategy and task are given by name, with their options; `quantization` is that of the base, `held_out` says whether there
    is data to score on, `from_scratch` whether the base starts from random weights, `picks_step` whether what is held out is of
    the data itself.

    Raises:
        StrategyNotFoundError, ConfigError: an unknown name or option, or options that exclude each other.
        NotSupportedError: strategy, task and quantization do not go together.
    """
    provided = strategy_shelf.resolve(strategy)
    options = strategy_shelf.configure(provided, settings)
    provided_task = task_shelf.resolve(task)
    settled = task_shelf.configure(provided_task, task_options)
    check_strategy(provided.spec, options, modality=provided_task.spec.modality, quantization=quantization)
    if from_scratch and not provided.spec.traits_of(options).trains_base:
        raise ConfigError(
            f"--from-scratch trains every weight of the base, which strategy '{strategy}' does not; use --strategy full"
        )
    config.check(held_out=held_out)
    if config.shard and quantization == "int8":
        raise NotSupportedError("--shard does not go with --quantize int8; use --quantize nf4 or none")
    return CheckedRun(provided, options, provided_task, settled, config, picks_step)


def check_strategy(spec: StrategySpec, options: StrategyConfig, *, modality: Modality, quantization: str) -> None:
    """Refuse a base that a strategy cannot adapt with these options.

    Raises:
        NotSupportedError: saying what it can.
    """
    traits = spec.traits_of(options)
    if modality not in traits.modalities:
        allowed = ", ".join(sorted(traits.modalities))
        raise NotSupportedError(f"strategy '{spec.name}' works on {allowed}, not on {modality}")
    if quantization != "none" and not traits.works_on_quantized_base:
        asking = _asking_for_plain_base(spec, options)
        other = f"another {asking[0].partition('=')[0]}" if asking else "a strategy such as lora"
        raise NotSupportedError(
            f"strategy '{spec.name}'{' with ' if asking else ''}{' and '.join(asking)} needs an unquantized base, and this "
            f"one is {quantization}; use --quantize none, or {other}"
        )


def _asking_for_plain_base(spec: StrategySpec, options: StrategyConfig) -> list[str]:
    """Of a strategy that works on quantized bases by default, the options that alone keep it from that, as name=value."""
    if not spec.traits.works_on_quantized_base:
        return []
    values = {name: getattr(options, name) for name in type(options).model_fields}
    alone = {f"{name}={value}": type(options).model_construct(**{name: value}) for name, value in values.items()}
    return [said for said, config in alone.items() if not spec.traits_of(config).works_on_quantized_base]


def check_arguments(
    base: Any, data: Any, eval_data: Any, hold_out: Any, config: Any, run_folder: Any, *, resume: bool
) -> None:
    """Refuse arguments of `Engine.train` that are something else than it takes.

    Raises:
        ConfigError: naming what was given.
    """
    if isinstance(base, str) or not isinstance(data, Dataset):
        kinds = f"{type(base).__name__} and {type(data).__name__}"
        raise ConfigError(f"train takes what load_base and load_data return, not {kinds}; call those first")
    if config is not None and not isinstance(config, TrainConfig):
        raise ConfigError(f"config is a {type(config).__name__}; give TrainConfig(steps=..., ...)")
    if not isinstance(run_folder, (str, Path, type(None))):
        raise ConfigError(f"run_folder is a {type(run_folder).__name__}; give the path of a folder")
    if resume and run_folder is None:
        raise ConfigError("resume goes on with the run in run_folder; say which folder that is")
    if eval_data is not None and hold_out:
        raise ConfigError("hold_out scores on a part of the data, and eval_data is other data; give one of them")
    if isinstance(eval_data, Dataset) and eval_data.task != data.task:
        raise ConfigError(f"the data was read for {data.task}, and eval_data for {eval_data.task}; read both alike")
