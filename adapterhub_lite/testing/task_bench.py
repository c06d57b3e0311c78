"""What checks of tasks work with: tiny models whose problem is of the task, and a strategy of the kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from adapterhub_lite.base.view import ModelView
from adapterhub_lite.plugins.spec import StrategyConfig, StrategySpec
from adapterhub_lite.tasks.spec import TaskOptions, TaskSpec
from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.bound import BoundCheck, Workbench, bind
from adapterhub_lite.testing.check import Check
from adapterhub_lite.testing.checks import task_checks
from adapterhub_lite.testing.models import brought_models, choose_models
from adapterhub_lite.testing.tiny_model import TinyModel


class Shift:
    """A trained shift of what comes out of the first layer."""

    def attach(self, view: ModelView, config: StrategyConfig) -> Mapping[str, nn.Parameter]:
        """Put it there."""
        shift = nn.Parameter(torch.zeros(view.map.hidden_size, device=view.device))
        view.after(view.map.layers[0], lambda hidden: hidden + shift.to(hidden.dtype))
        return {"shift": shift}


SHIFT = StrategySpec(
    name="kit_shift", summary="A trained shift.", config=StrategyConfig, load=Shift, learning_rate=1e-2
)


@dataclass(frozen=True)
class TaskBench:
    """A task, and a tiny model whose problem is of it."""

    spec: TaskSpec
    model: TinyModel | None
    """None where there is none."""
    refusal = None

    @cached_property
    def config(self) -> TaskOptions:
        """The options to check with: the default ones."""
        return self.spec.options()

    @cached_property
    def bench(self) -> Bench:
        """The kit's own strategy on the model."""
        assert self.model is not None
        return Bench(SHIFT, None, self.model, (self.model,))


def bound_task_checks(
    spec: TaskSpec,
    models: Sequence[str | TinyModel] | None = None,
    *,
    qualified: str = "",
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> Iterator[BoundCheck]:
    """Generate the checks of a task, bound to it and to each tiny model whose problem is of it.

    `qualified` is the name of the task with its distribution. The other arguments are those of `check_strategy`.

    Raises:
        ConfigError: a check, model or expected failure that does not exist.
    """
    offered = choose_models(models) if models is not None else [m for m in brought_models() if not m.bare]
    benches = [TaskBench(spec, model) for model in offered if model.problem().task in (spec.name, qualified)]
    pairs: list[tuple[Check, Workbench, str | None]] = []
    for check in task_checks():
        if check.on == "strategy" or not benches:
            pairs.append((check, benches[0] if benches else TaskBench(spec, None), None))
        else:
            pairs += [(check, bench, bench.model.name) for bench in benches if bench.model is not None]
    return bind(pairs, expected_failures=expected_failures, checks=checks)
