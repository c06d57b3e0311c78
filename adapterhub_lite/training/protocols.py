"""The optional protocols of a strategy in a run: called where they are due, guarded, and what they give is checked."""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.learning import (
    AfterStep,
    Factors,
    Grouped,
    OutputLoss,
    Penalized,
    StrategyState,
)
from adapterhub_lite.plugins.strategy_call import describe
from adapterhub_lite.tasks.task import Batch
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.contract import LARGEST_VALUES, changes
from adapterhub_lite.training.randomness import restored, seed_all

SLOW = 0.1
"""Share of a step from which a strategy's own methods are named for their time."""
WARM = 5
"""Steps before their time is judged."""
_KIND = ("shape", "dtype", "device")


_log = logging.getLogger("adapterhub_lite")


class Protocols:
    """What one attached strategy does in a run; a strategy without protocols costs nothing.

    Each call draws random numbers from a stream of its own, made from the run's seed, the step and the method, so that
    what it draws neither changes the run's own numbers nor depends on how often the run was interrupted.
    """

    def __init__(self, attachment: Attachment, seed: int):
        self._attachment, self._seed = attachment, seed
        self._strategy, self._calls = attachment.strategy, attachment.calls
        self._draws: set[str] = set()
        self._slow: set[str] = set()
        self._first_size: int | None = None
        self._spent, self._steps = 0.0, 0

    @contextmanager
    def into(self, method: str, step: int | None = None) -> Iterator[None]:
        """Guard a call, with random numbers of its own."""
        device = self._attachment.base.device
        with restored(device), self._calls.into(method, step):
            seed_all(zlib.crc32(f"{self._seed} {step or 0} {method}".encode()))
            before = torch.get_rng_state()
            yield
            if method not in self._draws and not torch.equal(before, torch.get_rng_state()):
                self._draws.add(method)
                _log.info("%s draws random numbers, from a stream of its own", self._calls.title(method, step))

    @property
    def _parameters(self) -> Mapping[str, nn.Parameter]:
        """What trains, for looking up: a name that is taken out or put in would be saved so, and not loaded again."""
        return MappingProxyType(self._attachment.parameters)

    @contextmanager
    def _looking(self, method: str, step: int, given: Mapping[str, Tensor]) -> Iterator[None]:
        """Guard a call that computes a loss, and may write neither into what it is given nor into what trains.

        Raises:
            PluginError: it does, or computes gradients, which would count twice.
        """
        watched = {**{f"'{name}'": tensor for name, tensor in given.items()}, **self._attachment.parameters}

        def writes() -> dict[str, Any]:
            gradients = {f"the gradient of {name}": parameter.grad for name, parameter in self._parameters.items()}
            present = {name: tensor for name, tensor in {**watched, **gradients}.items() if tensor is not None}
            return {name: (id(tensor), tensor._version) for name, tensor in present.items()}

        before = writes()
        with self.into(method, step):
            yield
        changed = changes(before, writes())
        if changed:
            raise self._calls.fault(f"wrote where it may only look: {changed}", method, step)

    def groups(self) -> Mapping[str, Factors]:
        """Factors of learning rate and weight decay by parameter.

        Raises:
            PluginError: a name that is no parameter, or factors that are no numbers from 0 on.
        """
        strategy, attachment = self._strategy, self._attachment
        if not isinstance(strategy, Grouped):
            return {}
        with self.into("groups"):
            given = strategy.groups(attachment.config, self._parameters)
        if not isinstance(given, Mapping):
            raise self._calls.fault(f"returned {describe(given)}, not a mapping from names to Factors", "groups")
        for name, factors in given.items():
            if name not in attachment.parameters:
                raise self._calls.fault(f"names '{name}', which is no parameter of the adapter", "groups")
            if not isinstance(factors, Factors):
                raise self._calls.fault(f"gives {describe(factors)} for '{name}', not Factors", "groups")
            for value in (factors.learning_rate, factors.weight_decay):
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                    raise self._calls.fault(f"gives the factor {value!r} for '{name}'", "groups")
        return given

    def penalties(self, step: int) -> dict[str, Tensor]:
        """Scalars that are added to the loss of a step, by the name they are logged under.

        Raises:
            PluginError: something else than scalars.
        """
        strategy, attachment = self._strategy, self._attachment
        if not isinstance(strategy, Penalized):
            return {}
        with self._looking("penalty", step, {}), torch.enable_grad():
            given = strategy.penalty(attachment.config, self._parameters)
        named = (
            {f"penalty/{name}": v for name, v in given.items()} if isinstance(given, Mapping) else {"penalty": given}
        )
        for name, value in named.items():
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
                raise self._calls.fault(f"returned {describe(value)} as {name}, not a scalar tensor", "penalty", step)
        return {name: value.float().reshape(()) for name, value in named.items()}

    def output_loss_of(self, step: int) -> Callable[[Batch, Tensor], Tensor] | None:
        """`output_loss` in a step; None for a strategy without, for which outputs need not be there all at once."""
        return partial(self.output_loss, step=step) if isinstance(self._strategy, OutputLoss) else None

    def output_loss(self, batch: Batch, outputs: Tensor, step: int) -> Tensor:
        """What is added to the loss of each target of a piece of a batch, (targets,).

        Raises:
            PluginError: something else than a scalar or one number a target.
        """
        strategy, attachment = self._strategy, self._attachment
        assert isinstance(strategy, OutputLoss)
        with self._looking("output_loss", step, {**batch, "outputs": outputs}):
            given = strategy.output_loss(batch, outputs, lambda: attachment.teacher(batch))
        if not isinstance(given, Tensor) or not given.is_floating_point() or given.shape not in ((), outputs.shape[:1]):
            wanted = f"a scalar or a tensor of shape ({len(outputs)},)"
            raise self._calls.fault(f"returned {describe(given)}, not {wanted}", "output_loss", step)
        return given.float().expand(len(outputs))

    def after_step(self, step: int, total: int) -> None:
        """Let the strategy change its parameters after an update.

        Raises:
            PluginError: it changes a shape, or leaves values that are not finite.
        """
        strategy, attachment = self._strategy, self._attachment
        if not isinstance(strategy, AfterStep):
            return
        kinds = {name: _kind(parameter) for name, parameter in attachment.parameters.items()}
        with self.into("after_step", step), torch.no_grad():
            strategy.after_step(attachment.view, attachment.config, self._parameters, step, total)
        for name, parameter in attachment.parameters.items():
            for what, (before, now) in zip(_KIND, zip(kinds[name], _kind(parameter), strict=True), strict=True):
                if before != now:
                    raise self._calls.fault(
                        f"changed the {what} of '{name}' from {before} to {now}", "after_step", step
                    )
        if not torch.isfinite(nn.utils.get_total_norm(list(attachment.parameters.values()))):
            name = next(n for n, p in attachment.parameters.items() if not torch.isfinite(p).all())
            raise self._calls.fault(f"left values that are not finite in '{name}'", "after_step", step)

    def state(self, step: int) -> StrategyState:
        """What a checkpoint has to hold of the strategy.

        Raises:
            PluginError: what cannot be kept, or grows from checkpoint to checkpoint.
        """
        state = self._attachment.state(step)
        size = sum(tensor.nbytes for tensor in state.tensors.values()) + len(json.dumps(state.values))
        if self._first_size is not None and size > 2 * self._first_size + LARGEST_VALUES:
            raise self._calls.fault(
                f"has grown to {size} bytes from {self._first_size} at the first checkpoint", "state", step
            )
        self._first_size = size if self._first_size is None else self._first_size
        return state

    def judge_time(self, step: int, seconds: float) -> None:
        """Name a strategy that takes a good part of a step for itself; `seconds` is how long the step took."""
        self._steps += 1
        self._spent += seconds if self._steps > 1 else 0.0  # the first step is slow for many reasons
        if self._steps == 1:
            self._calls.seconds.clear()
        if self._steps <= WARM:
            return
        for method, spent in self._calls.seconds.items():
            if spent > SLOW * self._spent and method not in self._slow:
                self._slow.add(method)
                percent = round(100 * spent / self._spent)
                _log.warning("%s takes %d %% of the time of a step", self._calls.title(method, step), percent)


def _kind(parameter: Tensor) -> tuple[Any, ...]:
    """What `after_step` leaves alone, in the order of `_KIND`."""
    return tuple(parameter.shape), parameter.dtype, parameter.device
