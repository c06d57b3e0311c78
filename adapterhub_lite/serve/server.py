"""Listening and stopping: one process, one socket, a thread for each base."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

import uvicorn

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.interrupt import CAUGHT, listener
from adapterhub_lite.serve.app import make_app
from adapterhub_lite.serve.gate import Gate
from adapterhub_lite.serve.models import Models
from adapterhub_lite.serve.settings import Settings

LAST = 5.0
"""Seconds in which everything has to end when the grace is over."""


def bound(settings: Settings) -> socket.socket:
    """A socket that listens at the address, before anything is loaded; who connects meanwhile waits.

    Raises:
        ConfigError: there is no such address here, or something else listens at it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen at {settings.host}, port {settings.port}: {getattr(error, 'strerror', None) or error}; "
            "give another --port (0 takes a free one), or another --host"
        ) from error


def address_of(listening: socket.socket) -> str:
    """Where a socket listens, as the beginning of addresses."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Answers requests until it is stopped: those that came before are answered, for as long as the grace lasts.

    The first signal stops it, and a second one ends the grace.
    """

    def __init__(self, models: Models, settings: Settings):
        self.gate = Gate(make_app(models, settings, version("adapterhub-lite")), settings)
        super().__init__(
            uvicorn.Config(
                self.gate, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none",
                timeout_graceful_shutdown=round(settings.grace + LAST),
            )
        )  # fmt: skip
        self.models, self.settings = models, settings
        self._signals: list[int] = []

    def serve_at(self, listening: socket.socket) -> None:
        """Answer requests at a socket until a signal comes, or `should_exit` is set.

        Raises:
            Stopped: a signal came, and what was asked before is answered.
        """
        outer = listener()
        for turns in self.models.turns:
            turns.start()
        try:
            asyncio.run(self.serve(sockets=[listening]))
        finally:
            for turns in self.models.turns:
                turns.stop(at_once=True)
            for turns in self.models.turns:
                turns.join(LAST)
            listening.close()
        if self._signals:
            outer.stop(self._signals[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new requests, and wait for those that were taken."""
        self.gate.closed = True
        for turns in self.models.turns:
            turns.stop(at_once=False)
        hurrying = asyncio.create_task(self._hurry())
        await super().shutdown(sockets)
        hurrying.cancel()

    async def _hurry(self) -> None:
        """Refuse what is still to be answered when the grace is over, or a second signal came."""
        over = time.monotonic() + self.settings.grace
        while time.monotonic() < over and len(self._signals) < 2:
            await asyncio.sleep(0.1)
        for turns in self.models.turns:
            turns.stop(at_once=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal."""
        self._signals.append(sig)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals, if this is the main thread; what listened to them before does so again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.signal(number, self.handle_exit) for number in CAUGHT}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
