"""Telling observer plug-ins about a run; one that fails is warned about once and muted, and the run goes on."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

from adapterhub_lite.plugins import Plugins


class Observers:
    """The observer hooks of one run. The random state is theirs to use: it is put back after each of them."""

    def __init__(self, plugins: Plugins | None):
        self._plugins = plugins
        self._muted: set[str] = set()

    def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Call one observer hook of every plug-in that has it and is not muted."""
        if self._plugins is None:
            return
        for implementation in self._plugins.observers(hook):
            name = implementation.plugin_name
            if name in self._muted:
                continue
            given = {
                key: copy.deepcopy(value) if isinstance(value, dict) else value for key, value in arguments.items()
            }
            try:
                _keeping_random_state(implementation.function, [given[key] for key in implementation.argnames])
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit in an observer must not end a run
                self._muted.add(name)
                warnings.warn(
                    f"plug-in '{name}' failed in {hook} ({type(error).__name__}: {error}); it is muted for this run",
                    RuntimeWarning,
                    stacklevel=2,
                )


def _keeping_random_state(function: Any, arguments: list[Any]) -> None:
    import random

    import torch

    python, state = random.getstate(), torch.get_rng_state()
    try:
        function(*arguments)
    finally:
        random.setstate(python)
        torch.set_rng_state(state)
