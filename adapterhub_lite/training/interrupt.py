"""Ctrl-C and SIGTERM: end between two steps with everything saved, or at once where there is nothing to save."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the program in good order. A KeyboardInterrupt, so that nothing takes it for a failure."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Interrupt:
    """Whether the program was asked to stop. Signals are caught only inside `listening`, which the command line uses.

    The first signal raises `Stopped` at once, but inside `delayed` only at a `check` or at the end of the block. Later
    signals are ignored: the program is ending already, and kill -9 loses nothing but the last steps.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._delays = 0
        self._raised = False

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        """Handle the signals for the length of a `with` block; what handled them before does so again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield self  # Python handles signals in the main thread alone
            return
        before: dict[int, Any] = {number: signal.getsignal(number) for number in CAUGHT}
        try:
            for number in CAUGHT:
                signal.signal(number, self._handle)
            yield self
        finally:
            for caught, handler in before.items():
                signal.signal(caught, handler)

    @contextmanager
    def delayed(self) -> Iterator[None]:
        """Let a signal wait until a `check` or the end of the `with` block."""
        self._delays += 1
        try:
            yield
        finally:
            self._delays -= 1
        if self._delays == 0:
            self.check()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside `delayed`, let a signal raise at once again: what is cut off is done again from the start."""
        delays, self._delays = self._delays, 0
        try:
            self.check()
            yield
        finally:
            self._delays = delays

    def check(self) -> None:
        """Stop here if a signal came.

        Raises:
            Stopped: once; what is done on the way out is not stopped again.
        """
        if self.received is not None and not self._raised:
            self.stop(self.received)

    def stop(self, number: int) -> NoReturn:
        """Raise `Stopped` for a signal that came here or to another process, even if one was raised and swallowed before."""
        self.received, self._raised = number, True
        raise Stopped(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = number
        if self._delays == 0:
            self.check()
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; what was done is being saved\n")
