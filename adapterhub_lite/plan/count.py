"""The memory of a training step: the storages that are alive while the engine's own step runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.flat import BLOCKS
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.base.shards import storage_of
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.plan.storages import LiveStorages
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategyConfig
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import Encoded, Example, Task
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.flat import flattened
from adapterhub_lite.training.offload import SMALL
from adapterhub_lite.training.optimizer import make_optimizer
from adapterhub_lite.training.step import accumulate, apply


@dataclass(frozen=True)
class Count:
    """Bytes by what they are for, at the moment of a step when most is alive."""

    weights: int = 0
    """Of the base."""
    adapter: int = 0
    """What trains."""
    gradients: int = 0
    """Those of what trains that are there at that moment."""
    optimizer: int = 0
    """What it keeps of each gradient."""
    activations: int = 0
    """What the forward pass keeps for the backward pass, and what both compute on the way."""
    loss: int = 0
    """What is computed from the output layer on."""

    @property
    def peak(self) -> int:
        """All of them."""
        return sum(asdict(self).values())


def count_run(
    live: LiveStorages,
    base: Base,
    task: Task,
    provided: ProvidedStrategy,
    config: StrategyConfig,
    examples: Sequence[Example],
    run: TrainConfig,
    *,
    on_card: bool = False,
) -> tuple[Count, int]:
    """Count what training takes at most: a step from the second one on, or the features of a strategy without steps.

    The base is bare before and afterwards. On tensors with memory everything is done, which is how the plan is compared
    with what it foresees.

    Args:
        live: Counts; an `Imagined` computes nothing.
        base: Carries the strategy.
        task: Settled on it.
        provided: The strategy.
        config: Its options.
        examples: A batch; those of a micro-batch at once.
        run: How it trains.
        on_card: Whether batches are cut and padded as on an accelerator.

    Returns:
        The count, and how many numbers train.

    Raises:
        NotSupportedError: they do not go together.
    """
    with live, torch.random.fork_rng(devices=[]):
        live.add([*base.model.parameters(), *base.model.buffers()], "weights")
        live.kind = "adapter"
        strategy = provided.spec.make()
        attachment = attach(base, task, provided, strategy, config)
        try:
            trainable = sum(tensor.numel() for tensor in attachment.tensors.values())
            live.add(attachment.tensors.values(), "adapter")
            if isinstance(strategy, Solver):
                live.kind = "activations"
                live.begin_again()
                encode_features(base, task, Encoded(examples), Silent(), keep=False)
            else:
                _step(live, attachment, examples, run, on_card=on_card)
        finally:
            attachment.discard()
    return Count(**live.at_peak), trainable


def _step(
    live: LiveStorages, attachment: Attachment, examples: Sequence[Example], run: TrainConfig, *, on_card: bool
) -> None:
    base, task = attachment.base, attachment.task
    trained = [tensor for tensor in attachment.tensors.values() if tensor.requires_grad]
    live.kind = "optimizer"
    optimizer = make_optimizer(trained, run, 1e-4)
    for parameter in trained:  # an update of nothing, after which the optimizer has what it keeps
        parameter.grad = torch.zeros_like(parameter)
    apply(optimizer, 0, base.device)
    optimizer.zero_grad(set_to_none=True)
    weight = sum(example.weight for example in examples)
    recompute = activation_checkpointing(base.model, run.activation_checkpointing)
    offload = _waiting_elsewhere(base) if run.activation_offload else nullcontext()
    padded = on_card and not task.needs_one_row
    one_row = nullcontext() if padded else flattened(base, task, examples, attachment, learns=True, known=True)
    with recompute, offload, attachment.training(), one_row, _told_apart(live, attachment, trained):
        live.begin_again()
        accumulate(attachment, trained, examples, weight, run.examples_at_once, _say_nothing, on_card=on_card)
        nn.utils.clip_grad_norm_(trained, run.clip)
        apply(optimizer, 1, base.device)
        optimizer.zero_grad(set_to_none=True)


@contextmanager
def _waiting_elsewhere(base: Base) -> Iterator[None]:
    """As `training.offload.activation_offload`, but that what waits in the CPU's memory takes none: a card is planned for."""

    def pack(tensor: Tensor) -> Tensor | Callable[[], Tensor]:
        if tensor.nbytes < SMALL or storage_of(tensor) in weights or hasattr(tensor, BLOCKS):
            return tensor
        return partial(torch.empty_strided, tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype)

    def unpack(packed: Tensor | Callable[[], Tensor]) -> Tensor:
        return packed if isinstance(packed, Tensor) else packed()

    weights = {storage_of(tensor) for tensor in [*base.model.parameters(), *base.model.buffers()]}
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


@contextmanager
def _told_apart(live: LiveStorages, attachment: Attachment, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """Count gradients, activations and what belongs to the loss apart for the length of a `with` block."""

    def begin(kind: str, *_: Any) -> None:
        live.kind = kind

    def begin_loss(_: nn.Module, args: tuple[Any, ...]) -> None:
        live.kind = "loss"
        if isinstance(args[0], Tensor) and args[0].requires_grad:
            args[0].register_hook(partial(begin, "activations"))

    def is_gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            live.count_as(parameter.grad, "gradients")

    model, output = attachment.base.model, attachment.base.map.output
    last = attachment.head if attachment.head is not None else model.get_submodule(output) if output else None
    handles = [model.register_forward_pre_hook(partial(begin, "activations"))]
    if last is not None:
        handles.append(last.register_forward_pre_hook(begin_loss))
    handles += [parameter.register_post_accumulate_grad_hook(is_gradient) for parameter in trained]
    live.kind = "activations"
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _say_nothing(line: str) -> None:
    """Memory does not run out here."""
