"""Fitting a head on cached features instead of taking steps: a whole adapter, or what training starts from."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.strategy import FeatureProblem, Solver
from adapterhub_lite.errors import NotSupportedError, StrategyNotFoundError, TrainingError
from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategySpec
from adapterhub_lite.progress import Bar, Progress
from adapterhub_lite.tasks.task import Encoded
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.run.identity import new_id

OPTIONS_OF_STEPS = frozenset(TrainConfig.model_fields) - {
    "seed",
    "shard",
    "memory",
    "micro_batch_size",
    "keep_checkpoints",
    "general_text",
    "abstain",
    "label_thresholds",
    "calibrate",
}
"""Options that are about the steps of an optimizer."""


def solve_adapter(
    attachment: Attachment,
    strategy: Solver,
    data: Encoded,
    config: TrainConfig,
    observers: Observers,
    progress: Progress,
) -> dict[str, Any]:
    """Fit an adapter in one go; observers see a run of no steps begin and end.

    Returns:
        Facts worth recording.

    Raises:
        TrainingError: the solution is not finite.
    """
    unused = sorted(
        name for name in config.model_fields_set & OPTIONS_OF_STEPS if getattr(config, name) not in (None, [], False)
    )
    if unused:
        progress.say(f"note: {attachment.provided.spec.name} has no steps: {', '.join(unused)} say nothing to it")
    run = Run(
        attachment.provided.spec.name, attachment.task.name, attachment.base.reference, 0, config.model_dump(),
        stop=lambda reason: None, id=new_id(),
    )  # fmt: skip
    observers.notify("adapterhub_train_start", {"run": run})
    features = encode_features(attachment.base, attachment.task, data, progress)
    report = _solve(attachment, strategy, attachment.config, attachment.parameters, data, features, config, progress)
    broken = [name for name, tensor in attachment.tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(f"the solution is not finite in '{broken[0]}'; set a larger penalty")
    return {"seed": config.seed, **report}


def find_solver(strategy_shelf: Shelf[StrategySpec]) -> tuple[ProvidedStrategy, Solver]:
    """The strategy that fits a head on frozen features: the built-in one if it is installed, else another.

    Raises:
        StrategyNotFoundError: none is installed.
    """
    for provided, strategy in strategy_shelf.able(Solver):
        return provided, strategy
    raise StrategyNotFoundError(
        "no installed strategy fits a head on frozen features; the built-in one comes with `pip install adapterhub-lite`"
    )


def start_head(
    attachment: Attachment, strategy_shelf: Shelf[StrategySpec], data: Encoded, config: TrainConfig, progress: Progress,
    *, compared: bool,
) -> nn.Module | None:  # fmt: skip
    """Let the head start from the linear probe's solution on the bare base (LP-FT, Kumar et al. 2022, arXiv:2202.10054).

    From a random head the first steps distort good features to suit it; from this one they do not.

    Returns:
        Where it is `compared`, the probe as it would be by itself, with a penalty that is chosen by cross-validation.

    Raises:
        StrategyNotFoundError: no strategy is a probe.
        NotSupportedError: a task without a head.
    """
    provided, probe = find_solver(strategy_shelf)
    given = {} if config.start_penalty is None else {"penalty": config.start_penalty}
    options = strategy_shelf.configure(provided, given)
    if attachment.head is None:
        raise NotSupportedError(f"--start-head probe fits a head, and task '{attachment.task.name}' has none")
    features = encode_features(attachment.base, attachment.task, data, progress)
    alone: nn.Module | None = None
    if compared and given:
        at_first = copy.deepcopy(attachment.head.state_dict())
        chosen = strategy_shelf.configure(provided, {})
        _solve(attachment, probe, chosen, {}, data, features, config, progress)
        alone = copy.deepcopy(attachment.head).cpu()
        attachment.head.load_state_dict(at_first)
    report = _solve(attachment, probe, options, {}, data, features, config, progress)
    values = ", ".join(f"{name} {value:.4g}" for name, value in report.items())
    progress.say(f"the head starts from the linear probe ({values})")
    if compared and not given:
        alone = copy.deepcopy(attachment.head).cpu()
    return alone


def _solve(
    attachment: Attachment,
    strategy: Solver,
    options: Any,
    parameters: Mapping[str, Any],
    data: Encoded,
    encoded: tuple[Tensor, Tensor | None],
    config: TrainConfig,
    progress: Progress,
) -> dict[str, float]:
    features, targets = encoded
    assert targets is not None
    task, head = attachment.task, attachment.head
    groups: Tensor | None = None
    if data.groups is not None:
        groups = torch.tensor(data.groups).repeat_interleave(torch.tensor([example.rows for example in data.examples]))
    with progress.bar("solving", 100, "%") as bar:
        problem = FeatureProblem(
            features, targets, task.outputs(attachment.base), head, config.seed, _move(bar),
            task.target_kind, task.weights(targets), groups, attachment.base.device,
        )  # fmt: skip
        attachment.base.activate(attachment.view)
        if head is not None:
            head.to("cpu")
        with attachment.calls.into("solve"):
            report = strategy.solve(attachment.view, options, parameters, problem)
        if head is not None:
            head.to(attachment.base.device)
    return {name: value for name, value in report.items() if math.isfinite(value)}


def _move(bar: Bar) -> Callable[[float, str], None]:
    """A function that a solver tells the share of its work that is done; it moves a bar of 100."""
    shown = 0.0

    def show(share: float, note: str) -> None:
        nonlocal shown
        bar.advance(max(0.0, 100 * share - shown), note)
        shown = max(shown, 100 * share)

    return show
