"""What surrounds a call into a plug-in: saying which one is being waited for, and seeing that a model was left alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 10.0
"""Seconds after which a plug-in that is still at it is named."""

_log = logging.getLogger("adapterhub_lite")


@contextmanager
def waiting_for(what: str, remedy: str, seconds: float | None = None) -> Iterator[None]:
    """Name a plug-in that does not come back.

    Python cannot end code that hangs in its own process, so this does not try to: after `seconds` one warning is
    logged (on standard error, unless logging is set up otherwise), and an interrupt carries the name as a note.
    """
    timer = threading.Timer(
        PATIENCE if seconds is None else seconds,
        lambda: _log.warning("still waiting for %s; interrupt it and %s", what, remedy),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(f"while waiting for {what}; to go on without it, {remedy}")
        raise
    finally:
        timer.cancel()


def model_state(model: Any) -> list[tuple[Any, ...]]:
    """What can be seen cheaply of a model: its modules, hooks, and the identity and write count of every tensor.

    In-place writes are counted by torch, except those through `.data`, which nothing counts. Takes a few milliseconds
    whatever the size of the weights. Objects without modules have no state.
    """
    if not hasattr(model, "named_modules"):
        return []
    state: list[tuple[Any, ...]] = [
        (name, id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]
    state += [
        (name, id(tensor), tensor.data_ptr(), tensor._version, tensor.requires_grad)
        for tensors in (model.named_parameters(), model.named_buffers())
        for name, tensor in tensors
    ]
    return state


def remedy(plugin: str) -> str:
    """How to go on without a plug-in."""
    return f"leave it out with ADAPTERHUB_DISABLE={plugin}"
