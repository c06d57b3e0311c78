"""What the kit can be run on: strategies, tasks and plug-ins that observe, by name. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from adapterhub_lite.errors import PluginError, StrategyNotFoundError
from adapterhub_lite.names import did_you_mean
from adapterhub_lite.plugins.manager import OBSERVERS, Plugins

Kind = Literal["strategy", "task", "observer"]
KINDS: dict[Kind, str] = {"strategy": "strategies", "task": "tasks", "observer": "observers"}
"""What can be checked, and several of it."""


@dataclass(frozen=True)
class Target:
    """A strategy, a task, or all the observer hooks of a plug-in."""

    kind: Kind
    name: str
    """Of the strategy or the task; for an observer, that of its plug-in."""
    plugin: str
    dist: str
    version: str
    module: str
    """The file its code is in, or the module where there is no such file."""

    @property
    def qualified(self) -> str:
        """The name by which it is found among several of its name."""
        return f"{self.dist}:{self.name}"

    @property
    def title(self) -> str:
        """As messages name it."""
        return f"{self.kind} '{self.name}' of plug-in '{self.plugin}' ({self.dist} {self.version})"


def targets_of(plugins: Plugins) -> Iterator[Target]:
    """Everything that can be checked of the installed plug-ins."""
    for provided in (*plugins.strategies, *plugins.tasks):
        spec = provided.spec
        module = spec.load.partition(":")[0] if isinstance(spec.load, str) else getattr(spec.load, "__module__", "")
        yield Target(spec.kind, spec.name, provided.plugin, provided.dist, provided.version, _path_of(module))
    observing: dict[str, str] = {}
    for hook in sorted(OBSERVERS):
        for implementation in plugins.implementations(hook):
            observing.setdefault(implementation.plugin_name, implementation.function.__module__)
    for record in plugins.records:
        if record.name in observing:
            module = _path_of(observing[record.name])
            yield Target("observer", record.name, record.name, record.dist, record.version, module)


def choose_targets(plugins: Plugins, name: str) -> list[Target]:
    """What a name stands for: a strategy or a task, or a plug-in with all it offers.

    Raises:
        PluginError: a plug-in that failed or is disabled, or offers nothing that can be checked.
        StrategyNotFoundError: a name of nothing that is installed.
    """
    offered = list(targets_of(plugins))
    chosen = [target for target in offered if name in (target.plugin, target.name, target.qualified)]
    if chosen:
        return chosen
    for record in plugins.records:
        if record.name == name:
            at = f" at stage '{record.stage}'" if record.stage else ""
            nothing = "loaded, but offers no strategy, task or observer to check"
            why = f"{record.state}{at}: {record.error}" if record.error else nothing
            raise PluginError(f"plug-in '{name}' ({record.dist} {record.version}) is {why}")
    known = sorted({record.name for record in plugins.records} | {target.name for target in offered})
    raise StrategyNotFoundError(
        f"there is no plug-in, strategy or task '{name}'{did_you_mean(name, known)}; "
        f"installed: {', '.join(known) or 'none'}"
    )


def _path_of(module: str) -> str:
    """The file of a module, which is not imported for it."""
    try:
        found = find_spec(module)
    except (ImportError, ValueError):  # it cannot be imported, which the checks say
        found = None
    return found.origin if found is not None and found.origin is not None else module
