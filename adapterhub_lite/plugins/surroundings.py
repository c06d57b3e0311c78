"""What everybody in a process shares, and a plug-in may not leave changed: noticed after each call, and put back."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

CHANGING = threading.RLock()
"""Held by who changes such settings for a moment, as transformers does while it loads a model. Who looks at them waits."""

PUT_BACK = "; it was put back"
"""How what is said of a setting that was changed ends."""


class StandardOutput:
    """`sys.stdout`, which goes to standard error while plug-ins are asked, by however many threads at once."""

    def __init__(self) -> None:
        self._asking = 0
        self._own: Any = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Send what is printed to standard error, for the length of a `with` block."""
        with CHANGING:
            if not self._asking:
                self._own, sys.stdout = sys.stdout, sys.stderr
            self._asking += 1
        try:
            yield
        finally:
            with CHANGING:
                self._asking -= 1
                if not self._asking:
                    sys.stdout, self._own = self._own, None

    def read(self) -> Any:
        """Where output goes when no plug-in is asked."""
        return self._own if self._asking else sys.stdout

    def put(self, stream: Any) -> None:
        """Let output go there when no plug-in is asked."""
        if self._asking:
            self._own = stream
        else:
            sys.stdout = stream


OUTPUT = StandardOutput()


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, for the length of a `with` block.

    What is filtered is kept for the whole process: two threads at once would put back each other's filters.
    """
    with CHANGING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


Setting = tuple[str, Callable[[], Any], Callable[[Any], Any]]
"""What is looked at: how it is called, how it is read, how it is put back."""


def settings_of_process() -> list[Setting]:
    """Settings of torch and of the process that every user of it shares."""
    import torch

    settings: list[Setting] = [
        ("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        ("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
        ("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        (
            "torch's deterministic mode",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        ("torch's anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        ("torch's default device", torch.get_default_device, torch.set_default_device),
        ("the float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        ("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        ("the working directory", Path.cwd, os.chdir),
    ]
    settings.append(("standard output", OUTPUT.read, OUTPUT.put))
    for title, name in (("sys.excepthook", "excepthook"), ("standard error", "stderr")):
        settings.append((title, partial(getattr, sys, name), partial(setattr, sys, name)))
    return settings


@contextmanager
def surroundings_kept(say: Callable[[str], None]) -> Iterator[None]:
    """Put back, at the end of a `with` block, what was changed for the whole process.

    `say` is told of each such setting: "changed torch's default dtype; it was put back".
    """
    with CHANGING:
        before = [(title, read(), read, put) for title, read, put in settings_of_process()]
    try:
        yield
    finally:
        with CHANGING:
            for title, value, read, put in before:
                now = read()
                if now is not value and now != value:
                    put(value)
                    say(f"changed {title}{PUT_BACK}")
