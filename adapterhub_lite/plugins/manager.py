"""Plug-ins: find the entry points, load the modules, register the hooks; one bad plug-in stops none of the others.

`find` gives a `Plugin`, `load` its module, and registering it a `Record` of what became of it.

Which plug-ins are let in is settled before any of them is imported, by the environment or the arguments of `Plugins`:

    ADAPTERHUB_PLUGINS      only these, by the name of the plug-in or of its distribution, separated by commas
    ADAPTERHUB_DISABLE      not these
    ADAPTERHUB_NO_PLUGINS   1: none but those that come with adapterhub-lite (`adapterhub-lite --no-plugins`)
    ADAPTERHUB_STRICT       1: a plug-in that fails is an error (`adapterhub-lite --strict`)
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any, Literal, TypeVar

import pluggy

from adapterhub_lite.errors import PluginError
from adapterhub_lite.names import did_you_mean, one_line, short
from adapterhub_lite.plugins import hookspecs
from adapterhub_lite.plugins.find import GROUP, Plugin, PluginFailure, Record, Stage, find, load
from adapterhub_lite.plugins.guard import Watch, model_state, remedy
from adapterhub_lite.plugins.spec import API_VERSION, IN_PROGRAM, OURS, PROJECT, Provided, Spec
from adapterhub_lite.plugins.surroundings import OUTPUT

Answer = TypeVar("Answer")
HOOK_PREFIX = "adapterhub_"
OBSERVERS = frozenset(
    {"adapterhub_train_start", "adapterhub_step_end", "adapterhub_train_end", "adapterhub_adapter_saved"}
)
COLLECTED = frozenset({"adapterhub_strategies", "adapterhub_tasks", "adapterhub_readers", "adapterhub_tiny_models"})
"""Hooks that give any number of answers, and may be generators."""
HOOKS = frozenset(name for name in dir(hookspecs) if name.startswith(HOOK_PREFIX))


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
        self.strategies: list[Provided[Any]] = []
        self.tasks: list[Provided[Any]] = []
        self.notes: list[str] = []
        """Settings that have no effect, such as a name in ADAPTERHUB_DISABLE that no plug-in has."""
        installed, self.records = find() if enabled else ([], [])
        allowed, denied = _names_in("ADAPTERHUB_PLUGINS"), _names_in("ADAPTERHUB_DISABLE")
        known = {name for plugin in installed for name in (plugin.name, plugin.dist)}
        for variable, names in (("ADAPTERHUB_PLUGINS", allowed), ("ADAPTERHUB_DISABLE", denied)) if enabled else ():
            self.notes += [f"{variable} names '{name}', which is not installed" for name in sorted(names - known)]
        if third_party is None:
            third_party = not is_on("ADAPTERHUB_NO_PLUGINS")
        for plugin in installed:
            if not third_party and plugin.dist != OURS:
                self._note(plugin, "disabled", error="not of adapterhub-lite itself, and --no-plugins is set")
            elif {plugin.name, plugin.dist} & denied:
                self._note(plugin, "disabled", error="named in ADAPTERHUB_DISABLE")
            elif allowed and not {plugin.name, plugin.dist} & allowed:
                self._note(plugin, "disabled", error="not named in ADAPTERHUB_PLUGINS")
            else:
                self.admit(plugin)
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
        record = self.admit(Plugin(name, dist, version, entry), module)
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
        for implementation in self.implementations(hook):
            title, way_out = self.title(implementation.plugin_name), remedy(implementation.plugin_name)
            before = model_state(arguments.get("model"))
            result = self._call(hook, implementation, arguments)
            if model_state(arguments.get("model")) != before:
                raise PluginError(
                    f"{title} changed the model in {hook}, which only looks; load it again, and {way_out}"
                )
            if isinstance(result, answer):
                return result
            if result is not None:
                raise PluginError(f"{title} gave {short(result)} in {hook}, not {called} or None; fix it, or {way_out}")
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
            given = self._call(hook, implementation, {})
            for item in given if isinstance(given, Sequence) else (given,):
                if not isinstance(item, answer):
                    what = f"a list of {answer.__name__}"
                    raise PluginError(f"{title} gave {short(item)} in {hook}, not {what}; fix it, or {way_out}")
                answers.append((implementation.plugin_name, item))
        return answers

    def implementations(self, hook: str) -> list[pluggy.HookImpl]:
        """The functions of plug-ins for a hook, in the order in which they are called."""
        return list(reversed(getattr(self.manager.hook, hook).get_hookimpls()))

    def _call(self, hook: str, implementation: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
        """Call one plug-in; whatever it raises becomes an error that names it."""
        title, way_out = self.title(implementation.plugin_name), remedy(implementation.plugin_name)
        try:
            with self.watch.waiting_for(f"{title} in {hook}", way_out):
                result: Any = implementation.function(*[arguments[name] for name in implementation.argnames])
                # A generator runs the plug-in's code while it is read, so it is read here.
                return list(result) if inspect.isgenerator(result) else result
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit in a plug-in must not end the program
            raise PluginError(f"{title} failed in {hook}: {one_line(error)}; fix it, or {way_out}") from error

    def admit(self, plugin: Plugin, module: ModuleType | None = None) -> Record:
        """Take one plug-in through the stages; on failure nothing of it stays behind but its record."""
        try:
            if self.manager.has_plugin(plugin.name):
                raise PluginFailure("find", f"a plug-in named '{plugin.name}' is there already")
            module = module if module is not None else load(plugin, self.watch)
            try:
                strategies, tasks = self._register(plugin, module)
            except BaseException:
                if self.manager.has_plugin(plugin.name):
                    self.manager.unregister(name=plugin.name)
                raise
        except PluginFailure as failure:
            return self._note(plugin, "failed", stage=failure.stage, error=str(failure))
        self.strategies += strategies
        self.tasks += tasks
        strategy_names, task_names = (tuple(offer.spec.name for offer in offers) for offers in (strategies, tasks))
        return self._note(plugin, "loaded", strategies=strategy_names, tasks=task_names)

    def _register(self, plugin: Plugin, module: ModuleType) -> tuple[list[Provided[Any]], list[Provided[Any]]]:
        """Put its hooks into place, and ask for its strategies and tasks."""
        for name, value in list(vars(module).items()):
            self._check_hook(module, name, value)
        twin = self.manager.get_name(module)
        if twin is not None:
            raise PluginFailure("hooks", f"its module is the one of plug-in '{twin}'; one entry point is enough")
        try:
            self.manager.register(module, name=plugin.name)
        except Exception as error:
            raise PluginFailure("hooks", one_line(error)) from error
        title = f"plug-in '{plugin.name}' ({plugin.dist} {plugin.version})"
        with self.watch.waiting_for(title, remedy(plugin.name)), OUTPUT.aside():
            return self._collect(plugin, "strategies", self.strategies), self._collect(plugin, "tasks", self.tasks)

    def _check_hook(self, module: ModuleType, name: str, value: Any) -> None:
        """Refuse a function that is meant to be a hook and would not be called as one."""
        options = self.manager.parse_hookimpl_opts(module, name) if callable(value) else None
        if options is None:
            if name.startswith(HOOK_PREFIX) and inspect.isfunction(value):
                raise PluginFailure("hooks", f"function '{name}' looks like a hook but is not marked with @hookimpl")
            return
        hook = options.get("specname") or name
        if hook not in HOOKS:
            known = sorted(HOOKS)
            raise PluginFailure(
                "hooks", f"there is no hook '{hook}'{did_you_mean(hook, known)}; the hooks are {', '.join(known)}"
            )
        if options["wrapper"] or options["hookwrapper"]:
            raise PluginFailure("hooks", f"hook '{name}' may not be a wrapper; return a value instead of yielding")
        if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
            raise PluginFailure("hooks", f"hook '{name}' is async, and nothing would await it")
        if inspect.isgeneratorfunction(value) and hook not in COLLECTED:
            raise PluginFailure(
                "hooks", f"hook '{name}' is a generator, and nothing would run it; return instead of yielding"
            )

    def _collect(
        self, plugin: Plugin, stage: Literal["strategies", "tasks"], others: Sequence[Provided[Any]]
    ) -> list[Provided[Any]]:
        """Ask one plug-in for its strategies or tasks; `others` are those of plug-ins before it."""
        hook, what = f"{HOOK_PREFIX}{stage}", "strategy" if stage == "strategies" else "task"
        kind = f"{what.capitalize()}Spec"
        offers: dict[str, Provided[Any]] = {}
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name != plugin.name:
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
                    if spec.name in offers:
                        raise PluginFailure(stage, f"{what} '{spec.name}' is offered twice")
                    for other in others:
                        if (other.dist, other.spec.name) == (plugin.dist, spec.name):
                            raise PluginFailure(
                                stage,
                                f"{what} '{spec.name}' is also offered by plug-in '{other.plugin}' of {plugin.dist}",
                            )
                    offers[spec.name] = Provided(spec, plugin.name, plugin.dist, plugin.version)
            except (PluginFailure, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise PluginFailure(stage, f"{hook} raised {one_line(error)}") from error
        return list(offers.values())

    def _note(
        self,
        plugin: Plugin,
        state: Literal["loaded", "failed", "disabled"],
        *,
        stage: Stage | None = None,
        error: str | None = None,
        strategies: tuple[str, ...] = (),
        tasks: tuple[str, ...] = (),
    ) -> Record:
        self.records.append(Record(plugin.name, plugin.dist, plugin.version, state, stage, error, strategies, tasks))
        return self.records[-1]


def is_on(variable: str) -> bool:
    """Whether an environment variable is set to anything but nothing, 0, false or no."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no")


def _names_in(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}
