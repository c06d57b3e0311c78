"""A start from data: the batches that a strategy is given before the first step, and what it makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.learning import BatchContext, Preparer
from adapterhub_lite.errors import NotSupportedError, TrainingError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.plugins.strategy_call import describe
from adapterhub_lite.tasks.task import Encoded, Example
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.contract import check_parameters, storage_of
from adapterhub_lite.training.order import Order
from adapterhub_lite.training.out_of_memory import RanOut, attempt, free
from adapterhub_lite.training.protocols import Protocols
from adapterhub_lite.training.randomness import seed_all


class RunBatch:
    """A piece of a batch of the run; see `TrainingBatch`."""

    def __init__(self, attachment: Attachment, examples: Sequence[Example]):
        self._attachment, self._examples = attachment, examples
        self.weight = sum(example.weight for example in examples)

    @cached_property
    def inputs(self) -> Mapping[str, Tensor]:
        base = self._attachment.base
        batch = self._attachment.task.collate(self._examples, base)
        return {key: value.to(base.device) for key, value in batch.items()}

    def loss(self, *, adapted: bool = False) -> Tensor:
        with self._model(adapted):
            return self._loss()

    def gradients(self, layers: Sequence[str], *, adapted: bool = False) -> dict[str, Tensor]:
        gradients: dict[str, Tensor] = {}

        def capture(path: str, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            given = args[0].detach()
            # Nothing below the first of these layers trains, so the graph begins at its output.
            output = output if output.requires_grad else output.detach().requires_grad_()

            def add(gradient: Tensor) -> None:
                product = gradient.flatten(0, -2).float().T @ given.flatten(0, -2).float()  # (out, in)
                gradients[path] = gradients[path] + product if path in gradients else product

            output.register_hook(add)
            return output

        with self._model(adapted) as model, torch.enable_grad():
            modules = {path: model.get_submodule(path) for path in layers}
            for path, module in modules.items():
                weight = getattr(getattr(module, "base_layer", module), "weight", None)
                if not isinstance(weight, Tensor) or isinstance(
                    getattr(module, "base_layer", module), nn.Conv2d | nn.Embedding
                ):
                    raise NotSupportedError(f"'{path}' is no linear layer, and gradients are for those alone")
            handles = [m.register_forward_hook(partial(capture, path)) for path, m in modules.items()]
            kept = {id(t): t.grad for t in self._attachment.tensors.values()}
            try:
                # Pieces of the output layer's own inputs are no batch.
                self._loss(whole=self._attachment.base.map.output in layers).backward()
            finally:
                for handle in handles:
                    handle.remove()
                for tensor in self._attachment.tensors.values():
                    tensor.grad = kept[id(tensor)]
        return gradients

    def layer_inputs(self, layers: Sequence[str], *, adapted: bool = False) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        segments = BatchContext(self.inputs).segments
        real = None if segments is None else segments >= 0

        def capture(path: str, _: nn.Module, args: tuple[Any, ...]) -> None:
            given = args[0].detach()
            padded = real is not None and given.shape[:-1] == real.shape
            inputs[path] = given[real] if padded else given.flatten(0, -2)

        with self._model(adapted) as model, torch.no_grad():
            handles = [model.get_submodule(path).register_forward_pre_hook(partial(capture, path)) for path in layers]
            try:
                self._attachment.task.features(self._attachment.base, self.inputs)
            finally:
                for handle in handles:
                    handle.remove()
        return inputs

    @contextmanager
    def _model(self, adapted: bool) -> Iterator[Any]:
        """The model, bare or with the adapter on it."""
        view, model = self._attachment.view, self._attachment.base.model
        if not adapted:
            self._attachment.refuse_added_tokens(self.inputs)
            view.unmount()
        try:
            yield model
        finally:
            view.mount()

    def _loss(self, *, whole: bool = False) -> Tensor:
        """The loss; where `whole`, from outputs that are there all at once."""
        attachment, task = self._attachment, self._attachment.task
        attachment.view.context = BatchContext(self.inputs)
        with attachment.precision():
            if not whole:
                return task.loss(attachment.base, attachment.head, self.inputs, self.weight)
            logits, targets = task.logits(attachment.base, attachment.head, self.inputs)
        assert targets is not None
        return task.weighted(logits, targets, self.weight)


class RunBatches:
    """The batches of a run in their order, in pieces of at most `size` examples, as often as they are iterated over."""

    def __init__(self, attachment: Attachment, data: Encoded, config: TrainConfig, size: int):
        self._attachment, self._data, self._config, self._size = attachment, data, config, size

    def __iter__(self) -> Iterator[RunBatch]:
        order = Order(len(self._data.examples), self._config)
        for step in range(1, order.total + 1):
            examples = [self._data.examples[row] for row in order.rows(step)]
            for start in range(0, len(examples), self._size):
                yield RunBatch(self._attachment, examples[start : start + self._size])


def prepare(attachment: Attachment, protocols: Protocols, data: Encoded, config: TrainConfig) -> None:
    """Let a strategy start from data, if it does; where memory runs out, again from the start with smaller pieces.

    Raises:
        PluginError: it returns something else than it may; names what.
        TrainingError: a single example does not fit.
    """
    size = config.examples_at_once
    while isinstance(attachment.strategy, Preparer):
        batches = RunBatches(attachment, data, config, size)
        done = attempt(partial(_prepare, attachment, attachment.strategy, protocols, batches), attachment.base.device)
        if not isinstance(done, RanOut):
            return
        if size == 1:
            raise TrainingError(
                f"{attachment.calls.title('prepare')} ran out of memory with a single example{done.need}; use a shorter "
                "--max-length, --quantize nf4, or a smaller base"
            ) from done.error
        size //= 2
        free(attachment.base.device)
        seed_all(config.seed)
        attach_again(attachment, attachment.config)  # what was done to it so far is half of something


def _prepare(attachment: Attachment, strategy: Preparer, protocols: Protocols, batches: RunBatches) -> None:
    # Before the strategy gives up storage, which is used again.
    of_base = storage_of(attachment.base) - _trained(attachment)
    with protocols.into("prepare"), torch.enable_grad():
        own = MappingProxyType(attachment.parameters)
        given = strategy.prepare(attachment.view, attachment.config, own, batches)
    config, parameters = given if isinstance(given, tuple) and len(given) == 2 else (attachment.config, given)
    if not isinstance(config, type(attachment.config)):
        raise attachment.calls.fault(f"returned {describe(config)} as its config", "prepare")
    if config is not attachment.config:
        _check_written(config, attachment)
    parameters = attachment.parameters if parameters is None else parameters
    if isinstance(parameters, Mapping):
        parameters = {name: own for name, own in parameters.items() if name not in attachment.view.token_rows}
    checked = check_parameters(parameters, attachment.base, of_base, attachment.calls, "prepare")
    attachment.replace(config, checked)
    if given is not None:
        _check_slots(attachment)
    for tensor in attachment.tensors.values():
        tensor.grad = None  # what it left there would be added to the gradient of the first step
    attachment.base.model.eval()


def _check_written(config: StrategyConfig, attachment: Attachment) -> None:
    """Refuse a config that JSON does not hold, and the checkpoints and the adapter neither; pydantic copies unchecked."""
    try:
        back = type(config).model_validate(json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False)))
    except (ValueError, TypeError) as error:
        raise attachment.calls.fault(f"returned a config that cannot be saved: {one_line(error)}", "prepare") from error
    if back != config:
        raise attachment.calls.fault(f"returned a config that is read back as another: {back!r}", "prepare")


def _trained(attachment: Attachment) -> set[int]:
    """Where in memory that lies which the adapter trains already."""
    return {parameter.untyped_storage().data_ptr() for parameter in attachment.parameters.values()}


def _check_slots(attachment: Attachment) -> None:
    """Refuse parameters that could be neither resumed nor loaded, since `attach` makes others of the config."""
    calls, own = attachment.calls, {name: tuple(p.shape) for name, p in attachment.parameters.items()}
    view = attachment.view
    twin = attach(
        attachment.base, attachment.task, attachment.provided, attachment.provided.spec.make(), attachment.config
    )
    made = {name: tuple(p.shape) for name, p in twin.parameters.items()}
    twin.detach()
    attachment.base.activate(view)
    for name in [*own, *made]:
        if own.get(name) != made.get(name):
            raise calls.fault(
                f"made '{name}' {own.get(name)} where attach with the config it returned makes {made.get(name)}",
                "prepare",
            )


def slots_anew(attachment: Attachment) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """What a file of an adapter has to hold by dtype and shape, as a fresh attachment with its config says."""
    with torch.random.fork_rng(devices=[]):
        twin = attach(
            attachment.base, attachment.task, attachment.provided, attachment.provided.spec.make(), attachment.config
        )
    slots = {name: (slot.dtype, tuple(slot.shape)) for name, slot in twin.slots.items()}
    twin.detach()
    attachment.base.activate(attachment.view)
    return slots


def attach_again(attachment: Attachment, config: StrategyConfig) -> None:
    """Attach the strategy anew, by a fresh instance and with another config, in the place of what was attached."""
    head = attachment.head
    attachment.view.unmount()
    attachment.view.forget()
    attachment.base.active = None
    fresh = attach(attachment.base, attachment.task, attachment.provided, attachment.provided.spec.make(), config)
    attachment.__dict__.clear()
    attachment.__dict__.update(vars(fresh))
    attachment.head = head
