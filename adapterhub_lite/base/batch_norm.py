"""Batch normalisation: its layers, and which of their running statistics are parameters of the model.

Those of a pre-trained base are buffers, and adapting leaves them alone. Those of a base with random weights
(`adapterhub_lite.base.scratch`) are parameters without a gradient, which a strategy that trains the base moves and saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STATISTICS = ("running_mean", "running_var")


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by batch."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def statistics_of(model: nn.Module) -> list[nn.Parameter]:
    """The running statistics that are parameters."""
    statistics = [norm._parameters.get(name) for norm in batch_norms(model) for name in STATISTICS]
    return [parameter for parameter in statistics if parameter is not None]


@contextmanager
def normalising(model: nn.Module, learnt: Sequence[nn.Parameter]) -> Iterator[None]:
    """While `model` trains, layers whose statistics are `learnt` normalise by the batch; all others by their statistics."""
    mine = {id(parameter) for parameter in learnt}
    learning = [norm for norm in batch_norms(model) if id(norm.running_mean) in mine]

    def by_batch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].numel() // inputs[0].shape[1]  # of a channel; one alone has no spread
        norm.training = model.training and values > 1

    for norm in batch_norms(model):
        norm.eval()
    hooks = [norm.register_forward_pre_hook(by_batch) for norm in learning]
    counters: list[Any] = [norm.num_batches_tracked for norm in learning]
    for norm in learning:
        norm.num_batches_tracked = None  # the base's, which is not written to
    try:
        yield
    finally:
        for norm, hook, counter in zip(learning, hooks, counters, strict=True):
            hook.remove()
            norm.num_batches_tracked = counter
