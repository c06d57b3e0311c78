"""Who takes part in a comparison: baselines, and strategies with a few settings each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.comparison import baselines, counted_words, raw_values
from adapterhub_lite.comparison.asked import OF_HEADS, OF_LANGUAGE, Asked, check_asked
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterHubError, ConfigError
from adapterhub_lite.names import human_size
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.training.checks import CheckedRun, check_run
from adapterhub_lite.training.config import TrainConfig

BARE = "bare base"
FASTER = 4.0
"""A second learning rate that is tried, over the strategy's own: few rows want a higher one."""
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
    for name in asked.strategies or (OF_LANGUAGE if task.generates else OF_HEADS):
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
        taking_part += _with_settings(name, run, solves, faster=not traits.trains_base, head=isinstance(task, HeadTask))
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


def _with_settings(name: str, run: CheckedRun, solves: bool, *, faster: bool, head: bool) -> list[Contender]:
    """A strategy with what it does by itself and with a few other settings, unless those are given."""
    given = run.config
    if solves:
        return [Contender(name, name, _with(run, TrainConfig(seed=given.seed)), solves=True)]
    tried: list[dict[str, Any]] = [{}]
    if faster and given.learning_rate is None:
        tried.append({"learning_rate": FASTER * run.strategy.spec.learning_rate})
    if head and "start_head" not in given.model_fields_set:
        tried.append({"start_head": "probe"})
    return [
        Contender(
            ", ".join([name, *(f"{option}={value}" for option, value in changes.items())]), name,
            _with(run, given.model_copy(update=changes)),
        )
        for changes in tried
    ]  # fmt: skip


def _with(run: CheckedRun, config: TrainConfig, settings: StrategyConfig | None = None) -> CheckedRun:
    return CheckedRun(run.strategy, settings or run.settings, run.task, run.task_options, config)


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
