"""What everybody in a process shares, and a plug-in may not leave changed: noticed after each call, and put back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

# What is looked at: how it is called, how it is read, how it is put back.
_Setting = tuple[str, Callable[[], Any], Callable[[Any], Any]]


def _settings() -> list[_Setting]:
    import torch

    settings: list[_Setting] = [
        ("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        ("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
        ("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        (
            "torch's deterministic mode",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        ("the working directory", Path.cwd, os.chdir),
    ]
    for title, name in (("sys.excepthook", "excepthook"), ("standard output", "stdout"), ("standard error", "stderr")):
        settings.append((title, partial(getattr, sys, name), partial(setattr, sys, name)))
    return settings


@contextmanager
def surroundings_kept(changed: Callable[[str], None]) -> Iterator[None]:
    """Put back, at the end of a `with` block, what was changed for the whole process; `changed` is told what it was."""
    before = [(title, read(), read, put) for title, read, put in _settings()]
    try:
        yield
    finally:
        for title, value, read, put in before:
            now = read()
            if now is not value and now != value:
                put(value)
                changed(title)
