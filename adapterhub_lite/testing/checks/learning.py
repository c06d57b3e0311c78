"""Training: that it learns, whatever the base is stored in."""

from __future__ import annotations

import torch

from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.testing.bench import Bench, distance
from adapterhub_lite.testing.check import Check, CheckFailed, CheckSkipped, demand
from adapterhub_lite.training.attachment import Attachment

STEPS = 12
LARGEST_SHARE = 0.98
"""The loss after training is at most this share of the loss before."""


def check_loss_falls(bench: Bench) -> None:
    """On a tiny learnable problem the loss falls, by what the strategy trains and not by the task's head."""
    attachment = bench.attach(bench.base())
    before = bench.loss(attachment)
    # With nothing but the head to learn, the head learns.
    bench.train(attachment, STEPS, learn_head=not attachment.parameters)
    after = bench.loss(attachment)
    demand(after < LARGEST_SHARE * before, f"the loss was {before:.3f} and is {after:.3f} after {STEPS} steps")


def check_quantized_base(bench: Bench) -> None:
    """On an NF4 base it attaches, takes a step and gradients arrive, or it is refused where traits say so."""
    try:
        base = bench.base(quantization="nf4")
    except NotSupportedError as error:
        raise CheckSkipped(str(error)) from None
    if not bench.traits.works_on_quantized_base:
        try:
            bench.attach(base)
        except NotSupportedError:
            return
        raise CheckFailed("traits say works_on_quantized_base=False, but it attaches to an NF4 base")
    try:
        attachment = bench.attach(base)
    except NotSupportedError as error:
        if bench.given is not None and bench.given != bench.spec.config():
            raise CheckSkipped(f"with this config it is refused: {error}") from None
        raise CheckFailed(f"traits say works_on_quantized_base=True, but an NF4 base is refused: {error}") from error
    _takes_a_step(bench, attachment)


def check_bfloat16_base(bench: Bench) -> None:
    """On a bfloat16 base results are finite, and what trains is fp32."""
    attachment = bench.attach(bench.base(dtype=torch.bfloat16))
    for name, tensor in attachment.parameters.items():
        demand(tensor.dtype == torch.float32, f"'{name}' is {tensor.dtype}: small steps are lost in it; make it fp32")
    _takes_a_step(bench, attachment)


def _takes_a_step(bench: Bench, attachment: Attachment) -> None:
    if not isinstance(attachment.strategy, Solver) and attachment.parameters:
        gradients = bench.gradients(attachment)
        arrived = [n for n in attachment.parameters if (g := gradients[n]) is not None and bool(g.any())]
        demand(bool(arrived), "no gradient arrives")
        broken = [n for n, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
        demand(not broken, f"the gradient is not finite in '{broken[0] if broken else ''}'")
    before = {name: tensor.detach().clone() for name, tensor in attachment.tensors.items()}
    bench.train(attachment, 1)
    moved = any(distance(tensor, before[name]) > 0 for name, tensor in attachment.tensors.items())
    demand(moved, "a training step changes nothing")
    demand(bool(bench.predictions(attachment).isfinite().all()), "outputs after a training step are not finite")


CHECKS = (
    Check(check_loss_falls),
    Check(check_quantized_base),
    Check(check_bfloat16_base),
)
