"""Calling what a strategy offers, as hooks are called: whatever goes wrong in there names the plug-in and the call."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adapterhub_lite.errors import AdapterHubError, PluginError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.guard import Watch, remedy
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.plugins.surroundings import surroundings_kept

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What errors say that do not come from torch's allocator for accelerators."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the accelerator or of the machine, ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY)


class StrategyFault(PluginError):
    """What a strategy did against its contract, and `method`, what it was called for when it did."""

    def __init__(self, message: str, method: str):
        super().__init__(message)
        self.method = method


class StrategyCalls:
    """The calls into one attached strategy, or into one that is about to be attached."""

    def __init__(self, provided: ProvidedStrategy, watch: Watch | None = None):
        self._provided = provided
        self._watch = watch if watch is not None else Watch()
        self._told: set[str] = set()
        self.seconds: dict[str, float] = {}
        """How long each method has taken, all its calls together."""

    def title(self, method: str, step: int | None = None) -> str:
        """A call in words: `strategy 'x' (acme 1.2) in penalty at step 3`."""
        provided = self._provided
        when = f" at step {step}" if step is not None else ""
        return f"strategy '{provided.spec.name}' ({provided.dist} {provided.version}) in {method}{when}"

    def fault(self, problem: str, method: str, step: int | None = None) -> StrategyFault:
        """An error about what a call did or gave."""
        return StrategyFault(f"{self.title(method, step)} {problem}; fix it, or use another strategy", method)

    def tell_once(self, problem: str, method: str, step: int | None = None) -> None:
        """Warn, the first time, of something that a run survives."""
        if f"{method} {problem}" not in self._told:
            self._told.add(f"{method} {problem}")
            warnings.warn(f"{self.title(method, step)} {problem}", RuntimeWarning, stacklevel=3)

    @contextmanager
    def into(self, method: str, step: int | None = None) -> Iterator[None]:
        """Guard a call for the length of a `with` block.

        One that does not return is named after a while, settings of the process that it changes are put back and named,
        and its time is counted.

        Raises:
            PluginError: in place of whatever it raises, SystemExit too. Errors of ours, such as NotSupportedError, memory
                that runs out and an interrupt go through as they are.
        """
        begun = time.perf_counter()
        waiting = self._watch.waiting_for(self.title(method, step), remedy(self._provided.plugin))
        with waiting, surroundings_kept(lambda what: self.tell_once(what, method, step)):
            try:
                yield
            except (AdapterHubError, KeyboardInterrupt):
                raise
            except BaseException as error:
                if is_out_of_memory(error):
                    raise
                raise self.fault(f"failed: {one_line(error)}", method, step) from error
            finally:
                self.seconds[method] = self.seconds.get(method, 0.0) + time.perf_counter() - begun


def describe(value: Any) -> str:
    """A value in a few words, for messages: its class and, of a tensor, its shape."""
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape is not None else f"{type(value).__name__}"
