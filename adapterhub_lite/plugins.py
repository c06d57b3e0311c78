"""Plug-ins: find the entry points, load the modules, register the hooks; one bad plug-in stops none of the others.

Each stage has its own type: `find` gives `Found`, `load` gives `Loaded`, `register` fills a `Record`. Entry points
are read directly, because pluggy's own loader stops at the first bad import and drops the second of two plug-ins of
one name without a word.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any, Literal

import pluggy

from adapterhub_lite import hookspecs
from adapterhub_lite.api import API_VERSION, PROJECT, StrategySpec
from adapterhub_lite.errors import PluginError

GROUP = "adapterhub_lite"
HOOK_PREFIX = "adapterhub_"
OBSERVERS = frozenset(
    {"adapterhub_train_start", "adapterhub_step_end", "adapterhub_train_end", "adapterhub_adapter_saved"}
)
Stage = Literal["find", "import", "hooks", "strategies"]


@dataclass(frozen=True)
class Found:
    """An entry point of our group, not yet imported."""

    name: str
    dist: str
    version: str
    entry: metadata.EntryPoint


@dataclass(frozen=True)
class Loaded:
    """A plug-in whose module has been imported."""

    found: Found
    module: ModuleType


@dataclass(frozen=True)
class Record:
    """What became of one plug-in; `adapterhub-lite plugins list` prints these."""

    name: str
    dist: str
    version: str
    state: Literal["loaded", "failed", "disabled"]
    stage: Stage | None = None
    error: str | None = None
    strategies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provided:
    """A strategy with the plug-in that provides it."""

    spec: StrategySpec
    plugin: str
    dist: str
    version: str


class _Failure(Exception):
    """Carries the stage at which a plug-in failed."""

    def __init__(self, stage: Stage, message: str):
        super().__init__(message)
        self.stage = stage


class Plugins:
    """The plug-ins of one engine: their records, strategies and hooks.

    Args:
        enabled: Look at installed plug-ins at all; False gives an engine with none.
        strict: Raise `PluginError` for the first plug-in that failed instead of recording it.
    """

    def __init__(self, *, enabled: bool = True, strict: bool = False):
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.records: list[Record] = []
        self.strategies: list[Provided] = []
        allowed, denied = _names_in("ADAPTERHUB_PLUGINS"), _names_in("ADAPTERHUB_DISABLE")
        for found in find() if enabled else []:
            if denied and found.name in denied:
                self._note(found, "disabled", error="named in ADAPTERHUB_DISABLE")
            elif allowed and found.name not in allowed:
                self._note(found, "disabled", error="not named in ADAPTERHUB_PLUGINS")
            else:
                self._admit(found)
        failed = [record for record in self.records if record.state == "failed"]
        if strict and failed:
            raise PluginError("; ".join(f"plug-in '{r.name}' ({r.dist} {r.version}) failed: {r.error}" for r in failed))

    def register(self, module: ModuleType, *, dist: str = "(in this program)", version: str = "0") -> Record:
        """Add a plug-in by hand, as a test or a notebook does.

        Raises:
            PluginError: when it fails at any stage.
        """
        name = getattr(module, "__name__", repr(module))
        entry = metadata.EntryPoint(name=name, value=name, group=GROUP)
        self._admit(Found(name, dist, version, entry), module)
        record = self.records[-1]
        if record.state == "failed":
            raise PluginError(f"plug-in '{name}' failed: {record.error}")
        return record

    def first_result(self, hook: str, arguments: Mapping[str, Any]) -> Any:
        """Call a first-result hook and return the first answer that is not None.

        Raises:
            PluginError: when a plug-in raises, naming it.
        """
        for implementation in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            try:
                result = implementation.function(*[arguments[name] for name in implementation.argnames])
            except Exception as error:
                raise PluginError(
                    f"plug-in '{implementation.plugin_name}' failed in {hook}: {_one_line(error)}; "
                    f"fix it, or leave it out with ADAPTERHUB_DISABLE={implementation.plugin_name}"
                ) from error
            if result is not None:
                return result
        return None

    def observers(self, hook: str) -> list[pluggy.HookImpl]:
        """The implementations of an observer hook, in the order in which they are called."""
        return list(reversed(getattr(self.manager.hook, hook).get_hookimpls()))

    def _admit(self, found: Found, module: ModuleType | None = None) -> None:
        """Take one plug-in through the stages; on failure nothing of it stays behind but its record."""
        try:
            loaded = Loaded(found, module) if module is not None else load(found)
            provided = self._register(loaded)
        except _Failure as failure:
            if self.manager.has_plugin(found.name):
                self.manager.unregister(name=found.name)
            self._note(found, "failed", stage=failure.stage, error=str(failure))
            return
        self.strategies.extend(provided)
        self._note(found, "loaded", strategies=tuple(p.spec.name for p in provided))

    def _register(self, loaded: Loaded) -> list[Provided]:
        found = loaded.found
        known = {name for name in dir(hookspecs) if name.startswith(HOOK_PREFIX)}
        for name, value in vars(loaded.module).items():
            options = self.manager.parse_hookimpl_opts(loaded.module, name) if callable(value) else None
            if name.startswith(HOOK_PREFIX) and inspect.isfunction(value) and options is None:
                raise _Failure("hooks", f"function '{name}' looks like a hook but is not marked with @hookimpl")
            if options is not None and name not in known:
                raise _Failure("hooks", f"there is no hook '{name}'; the hooks are {', '.join(sorted(known))}")
            if options is not None and (options["wrapper"] or options["hookwrapper"]):
                raise _Failure("hooks", f"hook '{name}' may not be a wrapper; return a value instead of yielding")
        try:
            self.manager.register(loaded.module, name=found.name)
        except Exception as error:
            raise _Failure("hooks", _one_line(error)) from error
        try:
            return self._collect(found)
        except _Failure:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _Failure("strategies", f"adapterhub_strategies raised {_one_line(error)}") from error

    def _collect(self, found: Found) -> list[Provided]:
        """Ask this plug-in alone for its strategies, a generator run to its end here and now."""
        provided: list[Provided] = []
        for implementation in self.manager.hook.adapterhub_strategies.get_hookimpls():
            if implementation.plugin_name != found.name:
                continue
            result = implementation.function()
            if isinstance(result, StrategySpec) or not isinstance(result, Iterable):
                raise _Failure(
                    "strategies", f"adapterhub_strategies must return a list of StrategySpec, not {result!r}"
                )
            for spec in result:
                if not isinstance(spec, StrategySpec):
                    raise _Failure("strategies", f"adapterhub_strategies gave {spec!r}, which is not a StrategySpec")
                if spec.api != API_VERSION:
                    raise _Failure(
                        "strategies",
                        f"strategy '{spec.name}' is written for api {spec.api}, this adapterhub_lite has {API_VERSION}",
                    )
                if spec.name in {p.spec.name for p in provided}:
                    raise _Failure("strategies", f"strategy '{spec.name}' is offered twice")
                provided.append(Provided(spec, found.name, found.dist, found.version))
        return provided

    def _note(
        self,
        found: Found,
        state: Literal["loaded", "failed", "disabled"],
        *,
        stage: Stage | None = None,
        error: str | None = None,
        strategies: tuple[str, ...] = (),
    ) -> None:
        self.records.append(Record(found.name, found.dist, found.version, state, stage, error, strategies))


def find() -> list[Found]:
    """Scan the installed distributions once for entry points of our group, sorted and free of repeats.

    Two distributions that use one entry-point name are both kept; the second is called `name@dist`.
    """
    seen: dict[tuple[str, str], Found] = {}
    for distribution in metadata.distributions():
        entries = distribution.entry_points.select(group=GROUP)
        if not entries:
            continue
        dist = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "unknown").lower()
        for entry in entries:
            # The first on sys.path is the one that import would give; a second copy of it is a shadow.
            seen.setdefault((entry.name, dist), Found(entry.name, dist, distribution.version or "0", entry))
    result: list[Found] = []
    taken: set[str] = set()
    for key in sorted(seen):
        found = seen[key]
        if found.name in taken:
            found = Found(f"{found.name}@{found.dist}", found.dist, found.version, found.entry)
        taken.add(found.name)
        result.append(found)
    return result


def load(found: Found) -> Loaded:
    """Import one plug-in's module, turning whatever it raises into a recorded failure."""
    try:
        module = found.entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit in a plug-in must not end the program
        raise _Failure("import", f"importing '{found.entry.value}' raised {_one_line(error)}") from error
    if not isinstance(module, ModuleType):
        raise _Failure("import", f"'{found.entry.value}' is not a module; point the entry point at the module itself")
    return Loaded(found, module)


def _names_in(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
