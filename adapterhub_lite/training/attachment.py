"""A strategy on a base for a task: what trains, what is saved, and how to run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.batch_norm import normalising, statistics_of
from adapterhub_lite.base.dropout import without_dropout
from adapterhub_lite.base.heap import kept_heap
from adapterhub_lite.base.learning import BatchContext, Stateful, StrategyState
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Strategy
from adapterhub_lite.base.view import ModelView
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.plugins.guard import Watch
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategyConfig, Traits
from adapterhub_lite.plugins.strategy_call import StrategyCalls
from adapterhub_lite.plugins.surroundings import CHANGING
from adapterhub_lite.tasks.make import check_modality
from adapterhub_lite.tasks.task import Batch, Task
from adapterhub_lite.training.checks import check_strategy
from adapterhub_lite.training.contract import (
    HEAD,
    BaseWatch,
    bare_state,
    changes,
    check_parameters,
    state_problem,
    storage_of,
)

__all__ = ["HEAD", "Attachment", "attach"]


@dataclass
class Attachment:
    """One adapter on one base. Several may exist on a base; the one used last is mounted, the others are not."""

    base: Base
    task: Task
    view: ModelView
    provided: ProvidedStrategy
    strategy: Strategy
    config: StrategyConfig
    parameters: dict[str, nn.Parameter]
    """What the strategy trains, by its name in the file."""
    head: nn.Linear | None
    calls: StrategyCalls
    unchanged: BaseWatch
    bare: dict[str, Any]
    """What could be seen of the bare base before."""
    goes_on_from: str | None = None
    """Where training goes on with a saved adapter, what that adapter is, as SHA-256."""

    @property
    def traits(self) -> Traits:
        """What the strategy promises with its options."""
        return self.provided.spec.traits_of(self.config)

    @property
    def tensors(self) -> dict[str, nn.Parameter]:
        """Everything that trains and is saved: the strategy's parameters and the task's head."""
        head = dict(self.head.named_parameters()) if self.head is not None else {}
        return {**self.parameters, **{HEAD + name: parameter for name, parameter in head.items()}}

    @cached_property
    def statistics(self) -> list[nn.Parameter]:
        """The running statistics of batch normalisation among `parameters`, which no gradient moves."""
        own = {id(parameter) for parameter in self.parameters.values()}
        return [tensor for tensor in statistics_of(self.base.model) if id(tensor) in own]

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Run base, strategy and head on a batch that is on the base's device."""
        with self._mounted(batch):
            return self.task.logits(self.base, self.head, batch)

    def loss(self, batch: Batch, weight: float) -> Tensor:
        """Run them, and give the sum of the losses of all targets, divided by `weight`; see `Task.loss`."""
        with self._mounted(batch):
            return self.task.loss(self.base, self.head, batch, weight)

    def target_losses(self, batch: Batch) -> Tensor:
        """Run them, and give the loss of every target; see `Task.target_losses`."""
        with self._mounted(batch):
            return self.task.target_losses(self.base, self.head, batch)

    @contextmanager
    def _mounted(self, batch: Batch) -> Iterator[None]:
        """Let this adapter be the one on the base, and its layers know the batch, for the length of a `with` block."""
        with self.base.lock:
            self.base.activate(self.view)
            self.view.context = BatchContext(batch)
            try:
                with self.precision():
                    yield
            except BaseException:
                self.forget_batch()
                raise
            finally:
                if not torch.is_grad_enabled():  # else layers that are run again for their gradients ask for it again
                    self.forget_batch()

    @contextmanager
    def running(self, context: BatchContext) -> Iterator[None]:
        """Let layers ask what is being run, for the length of a `with` block; in generation it is the prompt."""
        self.view.context = context
        try:
            yield
        finally:
            self.forget_batch()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mount the adapter, which stays mounted; but within a `with` block of `without` the base is bare again."""
        with self.base.lock:
            self.base.activate(self.view)
            try:
                yield
            finally:
                if self.base.kept_bare:
                    self.base.activate(None)

    @contextmanager
    def ready(self, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """Mount the adapter to run prompts with it, which its layers may ask for."""
        with self.at_work(), self.running(BatchContext(inputs)):
            yield

    @contextmanager
    def without(self) -> Iterator[Base]:
        """Give the bare base for the length of a `with` block, for which other threads wait; then mount the adapter."""
        with self.base.lock:
            self.base.activate(None)
            before, self.base.kept_bare = self.base.kept_bare, True
            try:
                yield self.base
            finally:
                self.base.kept_bare = before
                self.base.activate(self.view)

    def forget_batch(self) -> None:
        """Let go of the batch that was run last."""
        self.view.context = None

    def teacher(self, batch: Batch) -> Tensor:
        """Outputs of the bare base, behind the head where there is one, for a batch; no gradients, dropout off.

        The adapter is taken off for it and put back, in the middle of a training step too.

        Raises:
            NotSupportedError: the batch has tokens that the adapter added, which the bare base does not know.
        """
        self.refuse_added_tokens(batch)
        modes = [(module, module.training) for module in self.base.model.modules()]
        self.view.unmount()
        self.base.model.eval()
        try:
            with torch.no_grad():
                return self.task.logits(self.base, self.head, batch)[0]
        finally:
            self.view.mount()
            for module, mode in modes:
                module.training = mode

    def refuse_added_tokens(self, batch: Batch) -> None:
        """Refuse to run the bare base on tokens that the adapter added.

        Raises:
            NotSupportedError: the batch has some.
        """
        ids, added = batch.get("input_ids"), self.view.token_ids
        if added and ids is not None and bool(((ids >= added[0]) & (ids <= added[-1])).any()):
            raise NotSupportedError(
                f"strategy '{self.provided.spec.name}' adds tokens, and the bare base knows nothing of them; it can be asked "
                "about rows without them alone"
            )

    def state(self, step: int | None = None) -> StrategyState:
        """What the strategy has that does not train; empty where it has nothing.

        Raises:
            PluginError: no StrategyState of tensors and JSON, or names that are taken; says what.
        """
        if not isinstance(self.strategy, Stateful):
            return StrategyState()
        with self.calls.into("state", step):
            state = self.strategy.state()
        problem = state_problem(state, self.tensors)
        if problem is not None:
            raise self.calls.fault(problem, "state", step)
        return state

    def load_state(self, state: StrategyState) -> None:
        """Give the strategy its state back."""
        if isinstance(self.strategy, Stateful):
            with self.calls.into("load_state"):
                self.strategy.load_state(state)

    @property
    def slots(self) -> dict[str, Tensor]:
        """Everything that is saved: `tensors`, and those of the strategy's state that belong into the file."""
        state = self.state()
        return {**self.tensors, **{name: tensor for name, tensor in state.tensors.items() if name in state.in_file}}

    def load_tensors(self, saved: Mapping[str, Tensor]) -> None:
        """Fill in saved values; the caller has checked names and shapes against `tensors`."""
        with self.base.lock, torch.no_grad():
            self.base.activate(self.view)
            for name, parameter in self.tensors.items():
                parameter.copy_(saved[name])

    def load_saved(self, saved: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Fill in what an adapter's file and manifest have; the caller has checked names and shapes against `slots`."""
        self.load_tensors(saved)
        state = {name: tensor for name, tensor in saved.items() if name not in self.tensors}
        if state or values:
            self.load_state(StrategyState(state, values, (*state, *values)))

    def replace(self, config: StrategyConfig, parameters: dict[str, nn.Parameter]) -> None:
        """Train other parameters from here on, which `attach` would make of this config."""
        self.config, self.parameters = config, parameters | self.view.token_rows
        self.__dict__.pop("statistics", None)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        self.unchanged.begin(self.view)

    @contextmanager
    def training(self, *, base_dropout: bool = True) -> Iterator[None]:
        """Put the model into training mode for the length of a `with` block, the base's own dropout on or off.

        Running statistics of batch normalisation stay as they are in the base, except those that are the adapter's own:
        these are updated with every micro-batch.
        """
        self.base.activate(None)
        own = [] if base_dropout else list(self.base.model.modules())
        self.base.activate(self.view)
        self.base.model.train()
        try:
            with normalising(self.base.model, self.statistics), kept_heap(self.base), without_dropout(own):
                yield
        finally:
            self.base.model.eval()

    def check_base(self, step: int | None = None) -> None:
        """Notice a strategy that writes into the base or leaves hooks there while it is trained.

        Raises:
            PluginError: naming what it changed.
        """
        changed = self.unchanged.changes()
        if changed:
            raise self.calls.fault(f"changed the base outside its view: {changed}", "training", step)

    def detach(self) -> None:
        """Take the adapter off for good; the base is bit for bit what it was.

        Raises:
            PluginError: it is not, because the strategy changed it outside its view; names what.
        """
        copied, judged = self.view.copied, not self.view.gone
        self.discard()
        if judged and self.base.active is None:
            before, self.bare = self.bare, bare_state(self.base)
            changed = changes(before, self.bare, copied)
            if changed:
                raise self.calls.fault(f"changed the base outside its view: {changed}; load the base again", "detach")

    def discard(self) -> None:
        """Take the adapter off for good, after an error that is to be told and not hidden behind another one."""
        self.view.unmount()
        self.view.forget()
        if self.base.active is self.view:
            self.base.active = None
        self.parameters = {}
        self.head = None

    def precision(self) -> Any:
        """Autocast to the base's dtype, for strategies that train its weights and so hold them in fp32.

        Around several passes, it casts each weight once.
        """
        if self.traits.trains_base and self.base.dtype != torch.float32:
            return torch.autocast(self.base.device.type, dtype=self.base.dtype)
        return nullcontext()


def attach(
    base: Base,
    task: Task,
    provided: ProvidedStrategy,
    strategy: Strategy,
    config: StrategyConfig,
    watch: Watch | None = None,
) -> Attachment:
    """Attach a strategy and a fresh head to a base; `watch` names it where it does not return.

    Raises:
        NotSupportedError: when strategy, task and base do not go together; the base is as it was.
        ConfigError: torch makes layers of another dtype than float32.
        PluginError: when the strategy breaks its contract, naming the plug-in.
    """
    with CHANGING:
        made_in = torch.get_default_dtype()
    if made_in != torch.float32:
        raise ConfigError(
            f"torch's default dtype is {made_in}, in which new layers would be made; call "
            "torch.set_default_dtype(torch.float32), and choose what the base computes in by --dtype"
        )
    spec, calls = provided.spec, StrategyCalls(provided, watch)
    check_strategy(spec, config, modality=base.map.modality, quantization=base.quantization)
    check_modality(task.name, task.modality, base)
    head = task.head(base.map)
    view = base.view(task.name, generates=task.generates)
    base.model.eval()  # a model that a program trained by itself may not be; this is no change of the strategy's
    bare, unchanged, of_base = bare_state(base), BaseWatch(base), storage_of(base)
    try:
        with calls.into("attach"):
            given = strategy.attach(view, config)
        parameters = check_parameters(given, base, of_base, calls, "attach") | view.token_rows
        if not parameters and head is None:
            raise calls.fault(f"returned nothing to train for {task.name}", "attach")
        view.unmount()
        base.model.eval()
        changed = changes(bare, bare_state(base), view.copied)
        view.mount()
        if changed:
            raise calls.fault(f"changed the base outside its view: {changed}", "attach")
        statistics = statistics_of(base.model)
        for parameter in parameters.values():
            parameter.requires_grad_(all(parameter is not tensor for tensor in statistics))
    except BaseException:
        view.unmount()
        raise
    if head is not None:
        head.to(base.device)
    base.model.eval()  # modules that the strategy made are born in training mode, their dropout on
    base.active = view
    unchanged.begin(view)
    return Attachment(base, task, view, provided, strategy, config, parameters, head, calls, unchanged, bare)
