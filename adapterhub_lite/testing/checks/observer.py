"""A plug-in that observes: it sees runs, does not fail, and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.surroundings import PUT_BACK
from adapterhub_lite.testing.check import Check, demand
from adapterhub_lite.testing.checks.description import demand_light
from adapterhub_lite.testing.snapshot import changed, process_state, warnings_with

if TYPE_CHECKING:
    from adapterhub_lite.testing.observer_bench import ObserverBench


def check_observer_light_import(bench: ObserverBench) -> None:
    """Importing the plug-in's module imports neither torch nor anything built on it."""
    demand_light([bench.module.__name__])


def check_observer_sees_a_run(bench: ObserverBench) -> None:
    """None of its hooks fails in a run that is scored, saved and detached."""
    with tempfile.TemporaryDirectory() as folder:
        _demand_no_failure(lambda: bench.run(Path(folder), observed=True))


def check_observer_sees_a_failure(bench: ObserverBench) -> None:
    """None of its hooks fails in a run that ends with an error before it is anywhere."""
    observers = Observers(bench.plugins())
    config = {"steps": 4}

    def fail() -> None:
        run = Run("kit_shift", "none", "(tiny)", 4, config, stop=lambda reason: None)
        observers.notify("adapterhub_train_start", {"run": run})
        observers.end(RuntimeError("out of memory"), {})

    _demand_no_failure(fail)


def check_observer_changes_nothing(bench: ObserverBench) -> None:
    """A run that it sees ends in the same bytes as one that it does not, and the process is as it was."""
    state = process_state()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        alone = bench.run(Path(first), observed=False)
        with warnings_with(PUT_BACK) as restored:
            seen = bench.run(Path(second), observed=True)
    demand(not restored, "; ".join(restored[:3]))
    settings = changed(state, process_state())
    demand(not settings, f"changed for the whole process: {', '.join(settings[:5])}")
    for name, tensor in alone.items():
        demand(torch.equal(tensor, seen[name]), f"a run that is observed ends with another '{name}'")


def _demand_no_failure(run: Callable[[], object]) -> None:
    """Fail where a hook failed while something ran, with what was said of it."""
    with warnings_with("it is muted for this run") as said:
        run()
    demand(not said, "; ".join(said))


CHECKS = (
    Check(check_observer_light_import, on="strategy"),
    Check(check_observer_sees_a_run, on="strategy"),
    Check(check_observer_sees_a_failure, on="strategy"),
    Check(check_observer_changes_nothing, on="strategy"),
)
