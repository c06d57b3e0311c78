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
from adapterhub_lite.base.heap import kept_heap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import KeepsFixed, Strategy
from adapterhub_lite.base.view import ModelView
from adapterhub_lite.errors import PluginError
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategyConfig
from adapterhub_lite.tasks.make import check_modality
from adapterhub_lite.tasks.task import Batch, Task
from adapterhub_lite.training.checks import check_strategy

HEAD = "head."


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

    @property
    def tensors(self) -> dict[str, nn.Parameter]:
        """Everything that trains and is saved: the strategy's parameters and the task's head."""
        head = dict(self.head.named_parameters()) if self.head is not None else {}
        return {**self.parameters, **{HEAD + name: parameter for name, parameter in head.items()}}

    @property
    def fixed(self) -> dict[str, Tensor]:
        """What is saved beside those and does not train."""
        return dict(self.strategy.fixed(self.view)) if isinstance(self.strategy, KeepsFixed) else {}

    @cached_property
    def statistics(self) -> list[nn.Parameter]:
        """The running statistics of batch normalisation among `parameters`, which no gradient moves."""
        own = {id(parameter) for parameter in self.parameters.values()}
        return [tensor for tensor in statistics_of(self.base.model) if id(tensor) in own]

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Run base, strategy and head on a batch that is on the base's device."""
        self.base.activate(self.view)
        with self.precision():
            return self.task.logits(self.base, self.head, batch)

    def load_tensors(self, saved: Mapping[str, Tensor]) -> None:
        """Fill in saved values; the caller has checked names and shapes against `tensors` and `fixed`."""
        self.base.activate(self.view)
        with torch.no_grad():
            for name, parameter in self.tensors.items():
                parameter.copy_(saved[name])
            if isinstance(self.strategy, KeepsFixed):
                self.strategy.set_fixed(self.view, {name: saved[name] for name in self.fixed if name in saved})

    @contextmanager
    def training(self) -> Iterator[None]:
        """Put the model into training mode for the length of a `with` block.

        Running statistics of batch normalisation stay as they are in the base, except those that are the adapter's own:
        these are updated with every micro-batch.
        """
        self.base.activate(self.view)
        self.base.model.train()
        try:
            with normalising(self.base.model, self.statistics), kept_heap(self.base):
                yield
        finally:
            self.base.model.eval()

    def detach(self) -> None:
        """Take the adapter off for good; the base is bit for bit what it was."""
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
        if self.provided.spec.traits.trains_base and self.base.dtype != torch.float32:
            return torch.autocast(self.base.device.type, dtype=self.base.dtype)
        return nullcontext()


def attach(
    base: Base, task: Task, provided: ProvidedStrategy, strategy: Strategy, config: StrategyConfig
) -> Attachment:
    """Attach a strategy and a fresh head to a base.

    Raises:
        NotSupportedError: when strategy, task and base do not go together; the base is as it was.
        PluginError: when the strategy breaks its contract, naming the plug-in.
    """
    spec = provided.spec
    check_strategy(spec, modality=base.map.modality, quantization=base.quantization)
    check_modality(task.name, task.modality, base)
    head = task.head(base.map)
    view = base.view(task.name, generates=task.generates)
    try:
        parameters = dict(strategy.attach(view, config))
        statistics = statistics_of(base.model)
        for name, parameter in parameters.items():
            if not isinstance(parameter, nn.Parameter):
                raise PluginError(f"strategy '{spec.name}' ({provided.dist}) returned '{name}', which is no Parameter")
            if name.startswith(HEAD):
                raise PluginError(f"strategy '{spec.name}' ({provided.dist}) may not name a tensor '{name}'")
            parameter.requires_grad_(all(parameter is not tensor for tensor in statistics))
        if not parameters and head is None:
            raise PluginError(f"strategy '{spec.name}' ({provided.dist}) returned nothing to train for {task.name}")
    except BaseException:
        view.unmount()
        raise
    if head is not None:
        head.to(base.device)
    base.model.eval()  # modules that the strategy made are born in training mode, their dropout on
    base.active = view
    return Attachment(base, task, view, provided, strategy, config, parameters, head)
