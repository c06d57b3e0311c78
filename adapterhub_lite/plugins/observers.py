"""Telling observer plug-ins about a run; one that fails is warned about once and muted, and the run goes on."""

from __future__ import annotations

import copy
import dataclasses
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.guard import remedy
from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.manager import Plugins


class Observers:
    """The observer hooks of one run.

    Each plug-in gets a `Run` of its own, the same one in every hook of the run, and copies of everything else that can
    be changed, so that what it does to them reaches neither the run nor another plug-in. The random state is theirs to
    use: it is put back after each call.
    """

    def __init__(self, plugins: Plugins | None):
        self._plugins = plugins
        self._muted: set[str] = set()
        self._runs: dict[str, Run] = {}

    def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Call one observer hook of every plug-in that has it and is not muted."""
        if self._plugins is None:
            return
        for implementation in self._plugins.implementations(hook):
            name = implementation.plugin_name
            if name in self._muted:
                continue
            given = {key: self._own(name, value) for key, value in arguments.items()}
            title, failure = self._plugins.title(name), None
            waiting = self._plugins.watch.waiting_for(f"{title} in {hook}", remedy(name))
            with putting_back(arguments.get("error")), waiting:
                try:
                    implementation.function(*[given[key] for key in implementation.argnames])
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # SystemExit in an observer must not end a run
                    failure = one_line(error)
            if failure is not None:
                self._muted.add(name)
                warnings.warn(
                    f"{title} failed in {hook} ({failure}); it is muted for this run", RuntimeWarning, stacklevel=2
                )

    def _own(self, plugin: str, value: Any) -> Any:
        """What one plug-in is given for an argument."""
        if isinstance(value, Run):
            if plugin not in self._runs:

                def stop(reason: str = "") -> None:
                    # It is saved with the adapter, so it has to be text, and to be there.
                    value.stop(str(reason) or f"asked to by plug-in '{plugin}'")

                self._runs[plugin] = dataclasses.replace(value, config=copy.deepcopy(value.config), stop=stop)
            return self._runs[plugin]
        return copy.deepcopy(value) if isinstance(value, dict) else value


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
