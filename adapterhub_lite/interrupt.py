"""Ctrl-C and SIGTERM: a signal is noted, and acted on where nothing is half done."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

CAUGHT = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 1.0
"""Seconds after a signal from which on another one is not taken for the same: Ctrl-C often arrives twice."""


class Stopped(KeyboardInterrupt):
    """A signal ended the program in good order. A KeyboardInterrupt, so that nothing takes it for a failure."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Interrupt:
    """Whether the program was asked to stop. Signals are caught only inside `listening`, which the command line uses.

    The handler raises nothing: an exception in the middle of a library's call may come out as another one, or be lost.
    It notes the signal, and the next `safe_point` raises `Stopped`; inside `delayed` that is the end of the block. A
    later signal changes nothing while something is `delayed`. Elsewhere, where no safe point may be near, it ends the
    program at once, as kill -9 would, which nothing on the disk minds.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0
        self._delays = 0
        self._allowed = False
        self._raised = False

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        """Handle the signals for the length of a `with` block; what handled them before does so again afterwards.

        Raises:
            Stopped: a signal came. Whatever else the block ended with then is its cause.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self  # Python handles signals in the main thread alone
            return
        before: dict[int, Any] = {number: signal.getsignal(number) for number in CAUGHT}
        try:
            for number in CAUGHT:
                signal.signal(number, self._handle)
            yield self
        except BaseException as error:
            if self.received is None or isinstance(error, Stopped):
                raise
            raise Stopped(self.received) from error
        finally:
            for caught, handler in before.items():
                signal.signal(caught, handler)
        if self.received is not None:
            raise Stopped(self.received)

    @contextmanager
    def delayed(self) -> Iterator[None]:
        """Let a signal wait until the end of the `with` block."""
        self._delays += 1
        try:
            yield
        finally:
            self._delays -= 1
        self.check()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside `delayed`, heed safe points again: what is cut off is done again from the start."""
        before, self._allowed = self._allowed, True
        try:
            self.check()
            yield
        finally:
            self._allowed = before

    def check(self) -> None:
        """Stop here if a signal came, unless that is delayed.

        Raises:
            Stopped: once; what is done on the way out is not stopped again.
        """
        if self.received is not None and not self._raised and (self._delays == 0 or self._allowed):
            self.stop(self.received)

    def stop(self, number: int) -> NoReturn:
        """Raise `Stopped` for a signal that came here or to another process, even if one was raised and swallowed before."""
        self.received, self._raised = number, True
        raise Stopped(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        # Not print: the signal may have come in the middle of one.
        if self.received is None:
            self.received, self._since = number, time.monotonic()
            os.write(2, b"\nstopping at the next safe point; what was done is being saved\n")
        elif self._delays == 0 and time.monotonic() - self._since > PATIENCE:
            os.write(2, b"\nstopped at once\n")
            os._exit(128 + self.received)


def listener() -> Interrupt:
    """The one that listens to signals now, as Python's own table of handlers has it; a deaf one where none does."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, Interrupt) else Interrupt()


def safe_point() -> None:
    """Stop here if a signal came and the program listens to signals: between two batches, files or phases.

    Raises:
        Stopped: see `Interrupt.check`.
    """
    listener().check()
