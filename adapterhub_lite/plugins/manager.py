"""Plug-ins: find the entry points, load the modules, register the hooks; one bad plug-in stops none of the others.

Each stage has its own type: `find` gives `Found`, `load` gives `Loaded`, `register` fills a `Record`.

Which plug-ins are let in is settled before any of them is imported, by the environment or the arguments of `Plugins`:

    ADAPTERHUB_PLUGINS      only these, by the name of the plug-in or of its distribution, separated by commas
    ADAPTERHUB_DISABLE      not these
    ADAPTERHUB_NO_PLUGINS   1: none but those that come with adapterhub-lite (`adapterhub-lite --no-plugins`)
    ADAPTERHUB_STRICT       1: a plug-in that fails is an error (`adapterhub-lite --strict`)
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import metadata
from types import ModuleType
from typing import Any, Literal, TypeVar

import pluggy

from adapterhub_lite.errors import PluginError
from adapterhub_lite.names import one_line, short
from adapterhub_lite.plugins import hookspecs
from adapterhub_lite.plugins.find import GROUP, Found, Loaded, PluginFailure, Record, Stage, find, load
from adapterhub_lite.plugins.guard import Watch, model_state, remedy
from adapterhub_lite.plugins.spec import API_VERSION, IN_PROGRAM, OURS, PROJECT, Provided, Spec

Answer = TypeVar("Answer")
HOOK_PREFIX = "adapterhub_"
OBSERVERS = frozenset(
    {"adapterhub_train_start", "adapterhub_step_end", "adapterhub_train_end", "adapterhub_adapter_saved"}
)
COLLECTED = frozenset({"adapterhub_strategies", "adapterhub_tasks", "adapterhub_readers", "adapterhub_tiny_models"})


class Plugins:
    """The plug-ins of one engine: their records, strategies and hooks.

    Args:
        enabled: Look at installed plug-ins at all; False gives an engine with none.
        third_party: Let in plug-ins of other distributions; by default unless ADAPTERHUB_NO_PLUGINS says no.
        strict: Raise for plug-ins that failed; by default as ADAPTERHUB_STRICT says.

    Raises:
        PluginError: where `strict`, naming every plug-in that failed.
    """

    def __init__(self, *, enabled: bool = True, third_party: bool | None = None, strict: bool | None = None):
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.watch = Watch()
        self.records: list[Record] = []
        self.strategies: list[Provided[Any]] = []
        self.tasks: list[Provided[Any]] = []
        self.notes: list[str] = []
        """What is odd about the settings, such as a name in ADAPTERHUB_DISABLE that no plug-in has."""
        found, broken = find() if enabled else ([], [])
        self.records.extend(broken)
        allowed, denied = _names_in("ADAPTERHUB_PLUGINS"), _names_in("ADAPTERHUB_DISABLE")
        known = {name for each in found for name in (each.name, each.dist)}
        for variable, names in (("ADAPTERHUB_PLUGINS", allowed), ("ADAPTERHUB_DISABLE", denied)) if enabled else ():
            self.notes += [f"{variable} names '{name}', which is not installed" for name in sorted(names - known)]
        if third_party is None:
            third_party = not is_on("ADAPTERHUB_NO_PLUGINS")
        for each in found:
            if not third_party and each.dist != OURS:
                self._note(each, "disabled", error="not of adapterhub-lite itself, and --no-plugins is set")
            elif {each.name, each.dist} & denied:
                self._note(each, "disabled", error="named in ADAPTERHUB_DISABLE")
            elif allowed and not {each.name, each.dist} & allowed:
                self._note(each, "disabled", error="not named in ADAPTERHUB_PLUGINS")
            else:
                self.admit(each)
        if is_on("ADAPTERHUB_STRICT") if strict is None else strict:
            self.raise_failures()

    def raise_failures(self) -> None:
        """Turn failed plug-ins into an error.

        Raises:
            PluginError: naming every plug-in that failed, its distribution and the reason.
        """
        failed = [record for record in self.records if record.state == "failed"]
        if failed:
            raise PluginError("; ".join(f"plug-in '{r.name}' ({r.dist} {r.version}) failed: {r.error}" for r in failed))

    def register(self, module: ModuleType, *, dist: str = IN_PROGRAM, version: str = "0") -> Record:
        """Add a plug-in by hand, as a test or a notebook does.

        Raises:
            PluginError: when it fails at any stage.
        """
        name = getattr(module, "__name__", repr(module))
        entry = metadata.EntryPoint(name=name, value=name, group=GROUP)
        record = self.admit(Found(name, dist, version, entry), module)
        if record.state == "failed":
            raise PluginError(f"plug-in '{name}' failed: {record.error}")
        return record

    def title(self, plugin: str) -> str:
        """A plug-in by name and distribution, for messages: `plug-in 'x' (acme 1.2)`."""
        record = next((r for r in self.records if r.name == plugin and r.state == "loaded"), None)
        return f"plug-in '{plugin}' ({record.dist} {record.version})" if record else f"plug-in '{plugin}'"

    def first_result(self, hook: str, arguments: Mapping[str, Any], answer: type, called: str) -> Any:
        """Call a first-result hook and return the first answer that is not None.

        Args:
            hook: Its name.
            arguments: By name; each plug-in gets those it takes.
            answer: What the hook is for.
            called: What that is called in messages.

        Raises:
            PluginError: when a plug-in raises, answers with something else than the hook is for, or changes the model
                it was asked to describe; names the plug-in.
        """
        for implementation in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            title, way_out = self.title(implementation.plugin_name), remedy(implementation.plugin_name)
            before = model_state(arguments.get("model"))
            result = self._asked(hook, implementation, arguments)
            if model_state(arguments.get("model")) != before:
                raise PluginError(
                    f"{title} changed the model in {hook}, which only looks; load it again, and {way_out}"
                )
            if result is None:
                continue
            if not isinstance(result, answer):
                raise PluginError(f"{title} gave {short(result)} in {hook}, not {called} or None; fix it, or {way_out}")
            return result
        return None

    def gathered(self, hook: str, answer: type[Answer]) -> list[tuple[str, Answer]]:
        """Ask every plug-in through a hook that is called when what it gives is needed.

        Args:
            hook: Its name; it takes no arguments and gives any number of answers.
            answer: Their class.

        Returns:
            Each answer with the name of its plug-in.

        Raises:
            PluginError: when a plug-in raises, or answers with something else; names it.
        """
        answers: list[tuple[str, Answer]] = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            title, way_out = self.title(implementation.plugin_name), remedy(implementation.plugin_name)
            given = self._asked(hook, implementation, {})
            for each in given if isinstance(given, Sequence) else (given,):
                if not isinstance(each, answer):
                    what = f"a list of {answer.__name__}"
                    raise PluginError(f"{title} gave {short(each)} in {hook}, not {what}; fix it, or {way_out}")
                answers.append((implementation.plugin_name, each))
        return answers

    def _asked(self, hook: str, implementation: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
        """What a plug-in answers in a hook, a generator run to its end.

        Raises:
            PluginError: when it raises; names it.
        """
        title, way_out = self.title(implementation.plugin_name), remedy(implementation.plugin_name)
        try:
            with self.watch.waiting_for(f"{title} in {hook}", way_out):
                answer = implementation.function(*[arguments[name] for name in implementation.argnames])
                return list(answer) if inspect.isgenerator(answer) else answer
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit in a plug-in must not end the program
            raise PluginError(f"{title} failed in {hook}: {one_line(error)}; fix it, or {way_out}") from error

    def observers(self, hook: str) -> list[pluggy.HookImpl]:
        """The implementations of an observer hook, in the order in which they are called."""
        return list(reversed(getattr(self.manager.hook, hook).get_hookimpls()))

    def admit(self, found: Found, module: ModuleType | None = None) -> Record:
        """Take one plug-in through the stages; on failure nothing of it stays behind but its record."""
        try:
            if self.manager.has_plugin(found.name):
                raise PluginFailure("find", f"a plug-in named '{found.name}' is there already")
            loaded = Loaded(found, module) if module is not None else load(found, self.watch)
            try:
                provided = self._register(loaded)
            except BaseException:
                if self.manager.has_plugin(found.name):
                    self.manager.unregister(name=found.name)
                raise
        except PluginFailure as failure:
            return self._note(found, "failed", stage=failure.stage, error=str(failure))
        names = []
        for shelf, specs in zip((self.strategies, self.tasks), provided, strict=True):
            shelf.extend(Provided(spec, found.name, found.dist, found.version) for spec in specs)
            names.append(tuple(spec.name for spec in specs))
        return self._note(found, "loaded", strategies=names[0], tasks=names[1])

    def _register(self, loaded: Loaded) -> tuple[list[Spec], list[Spec]]:
        """Put its hooks into place, and ask for its strategies and tasks."""
        found = loaded.found
        for name, value in list(vars(loaded.module).items()):
            self._check_hook(loaded.module, name, value)
        twin = self.manager.get_name(loaded.module)
        if twin is not None:
            raise PluginFailure("hooks", f"its module is the one of plug-in '{twin}'; one entry point is enough")
        try:
            self.manager.register(loaded.module, name=found.name)
        except Exception as error:
            raise PluginFailure("hooks", one_line(error)) from error
        waiting = self.watch.waiting_for(f"plug-in '{found.name}' ({found.dist} {found.version})", remedy(found.name))
        with waiting, redirect_stdout(sys.stderr):
            return self._collect(found, "strategies", self.strategies), self._collect(found, "tasks", self.tasks)

    def _check_hook(self, module: ModuleType, name: str, value: Any) -> None:
        """Refuse a function that is meant to be a hook and would not be called as one."""
        known = {each for each in dir(hookspecs) if each.startswith(HOOK_PREFIX)}
        options = self.manager.parse_hookimpl_opts(module, name) if callable(value) else None
        if options is None:
            if name.startswith(HOOK_PREFIX) and inspect.isfunction(value):
                raise PluginFailure("hooks", f"function '{name}' looks like a hook but is not marked with @hookimpl")
            return
        hook = options.get("specname") or name
        if hook not in known:
            close = difflib.get_close_matches(hook, sorted(known), n=1)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            raise PluginFailure("hooks", f"there is no hook '{hook}'{meant}; the hooks are {', '.join(sorted(known))}")
        if options["wrapper"] or options["hookwrapper"]:
            raise PluginFailure("hooks", f"hook '{name}' may not be a wrapper; return a value instead of yielding")
        if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
            raise PluginFailure("hooks", f"hook '{name}' is async, and nothing would await it")
        if inspect.isgeneratorfunction(value) and hook not in COLLECTED:
            raise PluginFailure(
                "hooks", f"hook '{name}' is a generator, and nothing would run it; return instead of yielding"
            )

    def _collect(
        self, found: Found, stage: Literal["strategies", "tasks"], taken: Sequence[Provided[Any]]
    ) -> list[Spec]:
        """Ask this plug-in alone for its strategies or tasks, a generator run to its end here and now.

        Args:
            found: The plug-in.
            stage: Which of the two; also the end of the hook's name.
            taken: Those offered before.
        """
        hook, what = f"{HOOK_PREFIX}{stage}", "strategy" if stage == "strategies" else "task"
        kind = f"{what.capitalize()}Spec"
        specs: list[Spec] = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name != found.name:
                continue
            try:
                result = implementation.function()
                if isinstance(result, Spec) or not isinstance(result, Iterable):
                    raise PluginFailure(stage, f"{hook} must return a list of {kind}, not {short(result)}")
                for spec in result:
                    if not isinstance(spec, Spec) or spec.kind != what:
                        raise PluginFailure(stage, f"{hook} gave {short(spec)}, which is not a {kind}")
                    if spec.api != API_VERSION:
                        raise PluginFailure(
                            stage,
                            f"{what} '{spec.name}' is written for api {spec.api}, this adapterhub_lite has {API_VERSION}",
                        )
                    if spec.name in {each.name for each in specs}:
                        raise PluginFailure(stage, f"{what} '{spec.name}' is offered twice")
                    twins = [each.plugin for each in taken if (each.dist, each.spec.name) == (found.dist, spec.name)]
                    if twins:
                        raise PluginFailure(
                            stage, f"{what} '{spec.name}' is also offered by plug-in '{twins[0]}' of {found.dist}"
                        )
                    specs.append(spec)
            except (PluginFailure, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise PluginFailure(stage, f"{hook} raised {one_line(error)}") from error
        return specs

    def _note(
        self,
        found: Found,
        state: Literal["loaded", "failed", "disabled"],
        *,
        stage: Stage | None = None,
        error: str | None = None,
        strategies: tuple[str, ...] = (),
        tasks: tuple[str, ...] = (),
    ) -> Record:
        self.records.append(Record(found.name, found.dist, found.version, state, stage, error, strategies, tasks))
        return self.records[-1]


def is_on(variable: str) -> bool:
    """Whether an environment variable is set to anything but nothing, 0, false or no."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no")


def _names_in(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}
