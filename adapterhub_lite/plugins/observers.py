"""Telling observer plug-ins about a run; one that fails is warned about once and muted, and the run goes on."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import did_you_mean, one_line
from adapterhub_lite.plugins.guard import Watch, remedy
from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.surroundings import surroundings_kept

RUN_HOOKS = ("adapterhub_train_start", "adapterhub_step_end", "adapterhub_train_end")


@dataclass(frozen=True)
class Listener:
    """One function that is told of one event."""

    name: str
    """Of its plug-in, or of the class of an object that was given to the run by hand."""
    title: str
    remedy: str
    function: Callable[..., Any]
    arguments: Sequence[str]


class Observers:
    """The observers of one run: plug-ins, and objects that were given to it by hand.

    Each gets a `Run` of its own, the same one in every hook of the run, and copies of everything else that can be changed,
    so that what it does to them reaches neither the run nor another observer. The random state is theirs to use: it is put
    back after each call.

    Args:
        plugins: Whose hooks are called; None for no plug-ins.
        callbacks: Objects with methods named as the hooks of a run.

    Raises:
        ConfigError: a callback without any such method.
    """

    def __init__(self, plugins: Plugins | None, callbacks: Sequence[object] = ()):
        self._plugins = plugins
        self.watch = plugins.watch if plugins is not None else Watch()
        self._by_hand = _by_hand(callbacks)
        self._muted: set[str] = set()
        self._runs: dict[str, Run] = {}
        self._kept: dict[str, Any] = {}
        self._run: Run | None = None

    def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Call one observer hook of every observer that has it and is not muted."""
        self._run = arguments.get("run", self._run)
        for listener in self._listeners(hook):
            if listener.name in self._muted:
                continue
            given = {key: self._own(listener.name, value) for key, value in arguments.items()}
            failure = None
            waiting = self.watch.waiting_for(f"{listener.title} in {hook}", listener.remedy)
            kept = surroundings_kept(partial(_tell_changed, f"{listener.title} in {hook}"))
            with putting_back(arguments.get("error")), kept, waiting:
                try:
                    listener.function(*[given[key] for key in listener.arguments])
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # SystemExit in an observer must not end a run
                    failure = one_line(error)
            if failure is not None:
                self._mute(listener, hook, failure)

    def end(self, error: BaseException | None, metrics: Mapping[str, float]) -> None:
        """Tell that the run ended, if it began."""
        if self._run is not None:
            run, self._run = self._run, None
            self.notify("adapterhub_train_end", {"run": run, "error": error, "metrics": dict(metrics)})

    def states(self) -> dict[str, Any]:
        """What the observers keep for themselves, by name, for a checkpoint; one that keeps no JSON is muted."""
        states = dict(self._kept)
        for name, run in self._runs.items():
            try:
                states[name] = json.loads(json.dumps(run.state, allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                listener = next(own for hook in RUN_HOOKS for own in self._listeners(hook) if own.name == name)
                self._mute(listener, "run.state", f"it is no JSON: {one_line(error)}")
        return {name: state for name, state in states.items() if state}

    def set_states(self, states: Mapping[str, Any]) -> None:
        """Give the observers back what `states` gave, before the run begins."""
        self._kept = dict(states)

    def _listeners(self, hook: str) -> list[Listener]:
        if self._plugins is None:
            return self._by_hand.get(hook, [])
        own = [
            Listener(i.plugin_name, self._plugins.title(i.plugin_name), remedy(i.plugin_name), i.function, i.argnames)
            for i in self._plugins.implementations(hook)
        ]
        return own + self._by_hand.get(hook, [])

    def _mute(self, listener: Listener, hook: str, failure: str) -> None:
        if listener.name not in self._muted:
            self._muted.add(listener.name)
            warnings.warn(
                f"{listener.title} failed in {hook} ({failure}); it is muted for this run", RuntimeWarning, stacklevel=3
            )

    def _own(self, name: str, value: Any) -> Any:
        """What one observer is given for an argument."""
        if isinstance(value, Run):
            if name not in self._runs:

                def stop(reason: str = "") -> None:
                    # It is saved with the adapter, so it has to be text, and to be there.
                    value.stop(str(reason) or f"asked to by plug-in '{name}'")

                def log(title: str, number: float) -> None:
                    if not isinstance(title, str) or not math.isfinite(number):
                        raise ValueError(f"run.log takes a name and a finite number, not {title!r} and {number!r}")
                    value.log(f"{name}/{title}", float(number))

                state = self._kept.pop(name, {})
                own = {"config": copy.deepcopy(value.config), "stop": stop, "log": log, "state": state}
                self._runs[name] = dataclasses.replace(value, **own)
            return self._runs[name]
        return copy.deepcopy(value) if isinstance(value, dict) else value


def _by_hand(callbacks: Sequence[object]) -> dict[str, list[Listener]]:
    """The methods of objects that are named as hooks of a run, by hook.

    Raises:
        ConfigError: an object without any, or with one that looks like a hook and is none.
    """
    listeners: dict[str, list[Listener]] = {hook: [] for hook in RUN_HOOKS}
    for number, callback in enumerate(callbacks):
        title = f"callbacks[{number}] ({type(callback).__name__})"
        names = [name for name in dir(callback) if name.startswith("adapterhub_")]
        unknown = [name for name in names if name not in RUN_HOOKS]
        if unknown or not names:
            hint = did_you_mean(unknown[0], RUN_HOOKS) if unknown else ""
            what = f"has '{unknown[0]}', which is no hook of a run{hint}" if unknown else "has no hook of a run"
            raise ConfigError(f"{title} {what}; the hooks are {', '.join(RUN_HOOKS)}")
        for name in names:
            function = getattr(callback, name)
            arguments = list(inspect.signature(function).parameters)
            listener = Listener(
                f"{type(callback).__name__}-{number}", title, "leave it out of callbacks", function, arguments
            )
            listeners[name].append(listener)
    return listeners


def _tell_changed(title: str, what: str) -> None:
    warnings.warn(f"{title} {what}", RuntimeWarning, stacklevel=4)


@contextmanager
def putting_back(error: BaseException | None) -> Iterator[None]:
    """Put back what a call may have touched: random states, gradient mode, and the exception that ended the run."""
    import torch

    python, state = random.getstate(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    gradients = torch.is_grad_enabled()
    inside = None if error is None else (error.args, error.__traceback__, dict(vars(error)))
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        torch.set_grad_enabled(gradients)
        if error is not None and inside is not None:
            error.args, error.__traceback__ = inside[0], inside[1]
            vars(error).clear()
            vars(error).update(inside[2])
