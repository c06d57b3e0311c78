"""The base under the adapter: it is lent, and given back as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.testing.bench import Bench, disturb, outputs
from adapterhub_lite.testing.check import Check, demand
from adapterhub_lite.testing.checks.options import variants
from adapterhub_lite.testing.snapshot import differences, snapshot


def check_base_unchanged(bench: Bench) -> None:
    """Attaching, training, saving and detaching leave the base bitwise as it was, its hooks and flags included."""
    base = bench.base()
    before = snapshot(base.model)
    attachment = bench.attach(base)
    bench.train(attachment, 2)
    with tempfile.TemporaryDirectory() as folder:
        bench.adapter(attachment).save(Path(folder, "adapter"))
    attachment.detach()
    changes = differences(before, snapshot(base.model))
    demand(not changes, f"after detach the base is not what it was: {'; '.join(changes[:4])}")


def check_detach_exact(bench: Bench) -> None:
    """After detach the outputs are bitwise those of the bare base."""
    base = bench.base()
    inputs = bench.inputs(base)
    bare = outputs(base, inputs)
    attachment = bench.attach(base)
    disturb(attachment)
    outputs(base, inputs)
    attachment.detach()
    demand(torch.equal(outputs(base, inputs), bare), "after detach the outputs differ from those of the bare base")


def check_disabled_exact(bench: Bench) -> None:
    """Inside `disabled()` the outputs are bitwise those of the bare base, and afterwards those of the adapter."""
    base = bench.base()
    inputs = bench.inputs(base)
    bare = outputs(base, inputs)
    adapter = bench.adapter(bench.attach(base))
    disturb(adapter.attachment)
    adapted = outputs(base, inputs)
    for _ in range(2):
        with adapter.disabled():
            demand(torch.equal(outputs(base, inputs), bare), "inside disabled() outputs differ from the bare base's")
        demand(torch.equal(outputs(base, inputs), adapted), "after disabled() the adapter gives other outputs")


def check_two_adapters(bench: Bench) -> None:
    """Two adapters on one base, of the same config and of two, give each its own outputs whenever it is used."""
    for config in (bench.config, _other_config(bench)):
        if config is None:
            continue
        base = bench.base()
        first = bench.attach(base, seed=0)
        inputs = bench.inputs(base, attachment=first)
        disturb(first, seed=1)
        alone = [outputs(base, inputs)]
        second = bench.attach(base, config=config, seed=1)
        disturb(second, seed=2)
        alone.append(outputs(base, inputs))
        for turn in (0, 1, 0, 1):
            base.activate((first, second)[turn].view)
            same = torch.equal(outputs(base, inputs), alone[turn])
            demand(
                same, f"with two adapters on one base, the {('first', 'second')[turn]} gives other outputs than alone"
            )
        kinds = "of the same config" if config == bench.config else f"of configs {bench.config!r} and {config!r}"
        bare = not first.parameters or not second.parameters
        demand(bare or not torch.equal(*alone), f"two adapters {kinds} with other tensors give the same outputs")


def _other_config(bench: Bench) -> StrategyConfig | None:
    """A config that differs in one option and attaches to the model; None where there is none."""
    for _, config in variants(bench.config):
        try:
            bench.attach(bench.base(), config=config)
        except AdapterHubError:
            continue
        return config
    return None


CHECKS = (
    Check(check_base_unchanged, tells_of=("training", "detach")),
    Check(check_detach_exact),
    Check(check_disabled_exact),
    Check(check_two_adapters),
)
