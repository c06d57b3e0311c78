"""Who takes part in a comparison: baselines, and strategies with a few settings each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch

from adapterhub_lite.adapter.train import situation_of
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.comparison import baselines, counted_words, raw_values
from adapterhub_lite.comparison.asked import OF_HEADS, OF_LANGUAGE, Asked, check_asked
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterHubError, ConfigError
from adapterhub_lite.names import human_size
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.training.checks import CheckedRun, check_run
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.defaults import choose

BARE = "bare base"
RATES = (4.0, 0.25)
"""Learning rates that are tried beside the one that is chosen from the data, over that one."""
BYTES_A_WEIGHT = 16
"""Of a base whose weights all train in fp32: weight, gradient and AdamW's two averages."""


@dataclass(frozen=True)
class Contender:
    """One model to be fitted, without the rows that it is fitted to."""

    name: str
    family: str
    """The strategy, or the name of the baseline: of several settings of one the best goes on."""
    run: CheckedRun | None = None
    """How it is trained; None for a baseline."""
    fit: baselines.Fit | None = None
    """How a baseline is fitted; None for the bare base of a language model."""
    solves: bool = False
    """It has no steps, so that it costs little, and is fitted with all rows at once."""

    @property
    def settings(self) -> dict[str, Any]:
        """The strategy's options that are not the default ones."""
        return {} if self.run is None else self.run.settings.model_dump(mode="json", exclude_unset=True)

    @property
    def options(self) -> dict[str, Any]:
        """The options of training that were given, or tried."""
        return {} if self.run is None else self.run.config.model_dump(mode="json", exclude_unset=True)


def contenders(
    engine: Engine, base: Base, data: Dataset, task: Task, asked: Asked, task_options: Mapping[str, Any]
) -> tuple[list[Contender], dict[str, str]]:
    """Everyone who takes part, baselines first, and who does not with the reason.

    Raises:
        ConfigError, StrategyNotFoundError: as `check_asked`.
    """
    options = check_asked(engine, asked)
    taking_part, left_out = _baselines(data, task) if asked.baselines else ([], {})
    given = asked.config or TrainConfig()
    for name in dict.fromkeys(asked.strategies or (OF_LANGUAGE if task.generates else OF_HEADS)):
        try:
            run = check_run(
                engine.strategy_shelf, engine.task_shelf, strategy=name, settings=options[name], task=data.task,
                task_options={**data.options, **task_options}, config=given, quantization=base.quantization,
                held_out=False,
            )  # fmt: skip
            traits = run.strategy.spec.traits_of(run.settings)
            if traits.trains_base and not asked.strategies:
                _check_room(base)
            solves = isinstance(engine.strategy_shelf.load(run.strategy), Solver)
        except AdapterHubError as error:
            left_out[name] = str(error)
            continue
        if solves:
            taking_part.append(Contender(name, name, replace(run, config=TrainConfig(seed=given.seed)), solves=True))
            continue
        situation = situation_of(base, task, len(data), engine.strategy_shelf)
        config, line = choose(given, situation, run.strategy.spec)
        if line is not None:
            engine.progress.say(f"{name}: {line}")
        taking_part.append(Contender(name, name, replace(run, config=config)))
        if given.learning_rate is None and not traits.trains_base:
            taking_part += _at_other_rates(name, run, config)
    return taking_part, left_out


def _baselines(data: Dataset, task: Task) -> tuple[list[Contender], dict[str, str]]:
    if task.generates:
        return [Contender(BARE, BARE)], {}
    if not isinstance(task, HeadTask):
        return [], {
            "baselines": f"task '{task.name}' has no head of its own, so that they cannot be told what it wants"
        }
    values = task.target_kind == "values"
    first = "mean" if values else "most frequent"
    taking_part = [Contender(first, first, fit=baselines.commonest)]
    one = next(iter(data.inputs), None)
    name, fit = "", None
    if task.modality != "text":
        name, fit = "raw values + ridge", raw_values.raw_values
    elif isinstance(one, str) or (isinstance(one, tuple) and all(isinstance(part, str) for part in one)):
        name, fit = f"TF-IDF + {'ridge' if values else 'logistic regression'}", counted_words.counted_words
    missing = baselines.missing_package()
    if fit is None or missing is not None:
        return taking_part, {} if fit is None else {name: str(missing)}
    return [*taking_part, Contender(name, name, fit=fit)], {}


def _at_other_rates(name: str, run: CheckedRun, config: TrainConfig) -> Iterator[Contender]:
    chosen = config.learning_rate or run.strategy.spec.learning_rate
    for factor in RATES:
        rate = float(f"{factor * chosen:.3g}")
        other = config.model_copy(update={"learning_rate": rate})
        yield Contender(f"{name}, lr={rate:g}", name, replace(run, config=other))


def _check_room(base: Base) -> None:
    """Refuse to train all weights where memory does not do.

    Raises:
        ConfigError: it does not.
    """
    free = psutil.virtual_memory().available
    if base.device.type == "cuda":
        free = torch.cuda.mem_get_info(base.device)[0]
    needed = base.parameters * BYTES_A_WEIGHT
    if needed > free:
        raise ConfigError(
            f"training all {base.parameters:,} weights takes {human_size(needed)}, and {human_size(free)} are free; name it "
            "with --strategies to try all the same"
        )
