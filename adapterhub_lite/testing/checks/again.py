"""Training once more, in the same bytes: from a checkpoint, from the same seed, with activations computed again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.check import Check, CheckSkipped, demand
from adapterhub_lite.training.run.layout import checkpoint_paths

RESUMED = 4
"""Steps of the run that is cut off in its middle."""
GRADIENT_TOLERANCE = 1e-4


def check_resume(bench: Bench) -> None:
    """A run that goes on from a checkpoint ends in the same bytes as one that was never cut off."""
    attachment = bench.attach(bench.base())
    if isinstance(attachment.strategy, Solver):
        raise CheckSkipped("it is solved, and nothing is cut off")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        bench.train(attachment, RESUMED, folder=run, checkpoint_every=RESUMED // 2)
        whole = {name: tensor.detach().clone() for name, tensor in attachment.slots.items()}
        shutil.rmtree(checkpoint_paths(run)[-1])
        attachment = bench.attach(bench.base())
        bench.train(attachment, RESUMED, folder=run, checkpoint_every=RESUMED // 2, resume=True)
    demand(list(whole) == list(attachment.slots), "a run that goes on from a checkpoint has other tensors")
    for name, tensor in attachment.slots.items():
        demand(
            torch.equal(tensor, whole[name]),
            f"'{name}' is another when the run goes on from a checkpoint; what is counted, averaged or masked from step "
            "to step has to be in `state`",
        )


def check_activation_checkpointing(bench: Bench) -> None:
    """Recomputing activations gives the same gradients."""
    base = bench.base()
    attachment = bench.attach(base)
    if attachment.parameters:
        bench.train(attachment, 1)
    plain = bench.gradients(attachment)
    with activation_checkpointing(base.model, True):
        saving = bench.gradients(attachment)
    for name, expected in plain.items():
        gradient = saving[name]
        demand((gradient is None) == (expected is None), f"with checkpointing no gradient reaches '{name}'")
        if gradient is not None and expected is not None:
            peak = float(expected.abs().max())
            close = torch.allclose(gradient, expected, rtol=GRADIENT_TOLERANCE, atol=GRADIENT_TOLERANCE * peak + 1e-9)
            demand(close, f"with checkpointing the gradient of '{name}' is another")


def check_deterministic(bench: Bench) -> None:
    """The same seed gives bitwise the same adapter, and another seed is not overruled."""
    starts, ends, states = [], [], []
    for seed in (0, 0, 1):
        attachment = bench.attach(bench.base(), seed=seed)
        drawn, state = torch.initial_seed(), torch.get_rng_state()
        starts.append({name: tensor.detach().clone() for name, tensor in attachment.tensors.items()})
        bench.train(attachment, 2, seed=seed)
        ends.append({name: tensor.detach().clone() for name, tensor in attachment.tensors.items()})
        states.append((drawn, state))
    for moment, (first, again, _) in (("attaching", starts), ("training", ends)):
        demand(list(first) == list(again), "the same seed gives other tensors")
        for name, tensor in first.items():
            demand(torch.equal(tensor, again[name]), f"after {moment} with the same seed, '{name}' is another")
    overruled = states[2][0] != 1 or torch.equal(states[0][1], states[2][1])
    demand(not overruled, "attach sets torch's seed by itself, so that every seed gives the same adapter")


def _can_recompute(bench: Bench) -> str | None:
    """`traits.needs_base_gradients`, and the model supports activation checkpointing."""
    if not bench.traits.needs_base_gradients:
        return "traits.needs_base_gradients is False: nothing is recomputed"
    if not bench.base().model.supports_gradient_checkpointing:
        return "this model does not support activation checkpointing"
    return None


CHECKS = (
    Check(check_deterministic),
    Check(check_resume),
    Check(check_activation_checkpointing, _can_recompute),
)
