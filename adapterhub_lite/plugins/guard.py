"""Guarding calls into plug-ins: naming one that does not return, and noticing one that changed a model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE = 10.0
"""Seconds after which a plug-in that has not come back is named in a warning."""

_log = logging.getLogger("adapterhub_lite")


@dataclass(eq=False)
class _Call:
    what: str
    remedy: str
    begun: float
    named: bool = False


class Watch:
    """Watches calls into plug-ins, and names a plug-in that does not return.

    Python cannot end code that hangs in its own process. So after `PATIENCE` seconds one warning is logged (on standard
    error, unless logging is set up otherwise), and an interrupt carries the name as a note. One thread watches all calls;
    it starts with the first and ends when no call has begun for `PATIENCE` seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[_Call] = []
        self._begun = 0
        self._watching = False

    @contextmanager
    def waiting_for(self, what: str, remedy: str) -> Iterator[None]:
        """Watch a call for the length of a `with` block.

        Args:
            what: Names the plug-in and the call.
            remedy: What to do to go on without it.
        """
        call = _Call(what, remedy, time.monotonic())
        with self._lock:
            self._calls.append(call)
            self._begun += 1
            if not self._watching:
                threading.Thread(target=self._watch_calls, name="adapterhub-watch", daemon=True).start()
                self._watching = True
        try:
            yield
        except KeyboardInterrupt as stop:
            stop.add_note(f"while waiting for {what}; to go on without it, {remedy}")
            raise
        finally:
            with self._lock:
                self._calls.remove(call)

    def _watch_calls(self) -> None:
        before = 0
        while True:
            with self._lock:
                if not self._calls and self._begun == before:
                    self._watching = False
                    return
                before, now = self._begun, time.monotonic()
                waiting = [call for call in self._calls if not call.named]
                late = [call for call in waiting if now - call.begun >= PATIENCE]
                # What begins while this sleeps is not late before it wakes.
                pause = min((call.begun + PATIENCE - now for call in waiting if call not in late), default=PATIENCE)
            for call in late:
                call.named = True
                _log.warning("still waiting for %s; interrupt it and %s", call.what, call.remedy)
            time.sleep(pause)


def model_state(model: Any) -> dict[str, tuple[Any, ...]]:
    """What can be seen cheaply of a model: its modules, hooks, and the identity and write count of every tensor, by name.

    In-place writes are counted by torch, except those through `.data`, which nothing counts. Takes a few milliseconds
    whatever the size of the weights. Objects without modules have no state.
    """
    if not hasattr(model, "named_modules"):
        return {}
    state: dict[str, tuple[Any, ...]] = {
        f"module '{name}'": (id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    }
    for tensors in (model.named_parameters(), model.named_buffers()):
        for name, tensor in tensors:
            state[f"tensor '{name}'"] = (id(tensor), tensor.data_ptr(), tensor._version, tensor.requires_grad)
    return state


def remedy(plugin: str) -> str:
    """How to go on without a plug-in."""
    return f"leave it out with ADAPTERHUB_DISABLE={plugin}"
