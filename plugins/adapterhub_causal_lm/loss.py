"""The loss of many positions and its gradient, without the logits of all of them at once.

A language model's largest tensors are its logits: 2 x 2048 tokens of a vocabulary of 128,256 are 2 GiB in fp32, and the
loss makes several of that size. Here they exist for a few positions at a time: logits, loss, and the gradient that these
positions send back, which for a given loss depends on nothing else (as Liger Kernel does, Hsu et al. 2024,
arXiv:2410.10989).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

PIECE = 64 << 20
"""Bytes that the logits of a piece may take in fp32."""

LogitsOf = Callable[[Tensor], Tensor]
"""From (m, hidden) features to (m, vocabulary) logits in any dtype."""


def piecewise_losses(logits_of: LogitsOf, hidden: Tensor, targets: Tensor, width: int) -> Tensor:
    """The cross entropy of every position, (n,) in fp32, without gradients.

    Args:
        logits_of: A model behind its layers.
        hidden: (n, hidden)
        targets: (n,)
        width: The vocabulary's.
    """
    with torch.no_grad():
        parts = [_losses(logits_of(hidden[rows]), targets[rows])[0] for rows in _pieces(len(hidden), width)]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def piecewise_loss(logits_of: LogitsOf, hidden: Tensor, targets: Tensor, width: int, weight: float) -> Tensor:
    """The sum of the cross entropies divided by `weight`, a scalar in fp32 with gradients.

    The gradient of `hidden`, and of every parameter behind it that trains, is computed on the way.

    Args:
        logits_of: A model behind its layers; called in the context (autocast) of this call.
        hidden: (n, hidden), with its graph.
        targets: (n,)
        width: The vocabulary's.
        weight: What the sum is divided by.
    """
    total = hidden.new_zeros((), dtype=torch.float32)
    gradient = torch.zeros_like(hidden) if hidden.requires_grad else None
    learning: dict[Tensor, Tensor] = {}
    for rows in _pieces(len(hidden), width):
        features = hidden[rows].detach().requires_grad_(hidden.requires_grad)
        loss, given = _piece(logits_of, features, targets[rows], weight)
        total += loss
        if gradient is not None and features in given:
            gradient[rows] = given.pop(features)
        for parameter, part in given.items():
            learning[parameter] = learning[parameter].add_(part) if parameter in learning else part
    known = learning if gradient is None else {hidden: gradient, **learning}
    if not known:
        return total
    return _Known.apply(total, list(known.values()), *known)  # type: ignore[no-untyped-call]


def _piece(
    logits_of: LogitsOf, features: Tensor, targets: Tensor, weight: float
) -> tuple[Tensor, dict[Tensor, Tensor]]:
    """Loss of a piece, and its gradient by the features and by each parameter that its logits were computed from.

    A function, so that nothing as wide as the vocabulary is left when the next piece begins.
    """
    logits = logits_of(features)
    with torch.autocast(features.device.type, enabled=False):
        losses, sent = _losses(logits, targets)
        loss = losses.sum() / weight
        inputs = leaves_of(logits)
        if not inputs:
            return loss, {}
        # Of what softmax gave, the gradient by the logits is made in place.
        sent[torch.arange(len(targets), device=targets.device), targets] -= 1
        sent = sent.div_(weight).to(logits.dtype)
        # A parameter may have been computed from others before, and that graph is asked again by the next piece.
        given = torch.autograd.grad(logits, inputs, sent, retain_graph=True, allow_unused=True)
    return loss, {tensor: part for tensor, part in zip(inputs, given, strict=True) if part is not None}


class _Known(torch.autograd.Function):
    """A number whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of this loss has been taken, and is not kept for a second time")
        return None, None, *(gradient.mul_(given) for gradient in gradients)


def _pieces(count: int, width: int) -> Iterator[slice]:
    size = max(1, PIECE // (4 * width))
    yield from (slice(start, start + size) for start in range(0, count, size))


def _losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropies (m,), and the softmax (m, vocabulary), both in fp32."""
    values = logits.detach().to(torch.float32, copy=True)
    wanted = values.gather(1, targets[:, None])
    largest = values.amax(dim=1, keepdim=True)
    values.sub_(largest).exp_()
    total = values.sum(dim=1, keepdim=True)
    losses = (total.log() + (largest - wanted))[:, 0]
    return losses, values.div_(total)


def leaves_of(tensor: Tensor) -> list[Tensor]:
    """What a tensor was computed from and that takes gradients: parameters that train, and given features."""
    if tensor.is_leaf:
        return [tensor] if tensor.requires_grad else []
    leaves: dict[Tensor, None] = {}
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # of a node that a gradient ends in
        if leaf is not None:
            leaves[leaf] = None
        waiting += [following for following, _ in node.next_functions]
    return list(leaves)
