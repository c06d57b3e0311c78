"""Listening and stopping: one process, one socket, a thread for each base."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

import adapterhub_lite
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.interrupt import CAUGHT, Interrupt, listener
from adapterhub_lite.serve.app import make_app
from adapterhub_lite.serve.gate import Gate
from adapterhub_lite.serve.models import Models
from adapterhub_lite.serve.settings import Settings

LAST = 5.0
"""Seconds that the threads of the bases have to end in when all requests are gone."""


def bound(settings: Settings) -> socket.socket:
    """A socket at the address, before anything is loaded.

    Raises:
        ConfigError: there is no such address, or something else listens there.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {settings.host}: {error}; give an address of this machine") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        listening.close()
        raise _unusable(settings, error) from error
    return listening


def _unusable(settings: Settings, error: Exception) -> ConfigError:
    what = getattr(error, "strerror", None) or error
    return ConfigError(
        f"cannot listen at {settings.host}, port {settings.port}: {what}; give another --port, or 0 for a free one"
    )


def address_of(listening: socket.socket) -> str:
    """Where a socket listens, as the beginning of addresses."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Answers requests until it is stopped: those that came before are answered, for as long as the grace lasts.

    The first signal stops it, a second one ends everything at once. `serve` is what runs it.
    """

    def __init__(self, models: Models, settings: Settings):
        self.gate = Gate(make_app(models, settings, adapterhub_lite.__version__), settings)
        super().__init__(
            uvicorn.Config(
                self.gate, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none",
                timeout_graceful_shutdown=max(1, round(settings.grace)),
            )
        )  # fmt: skip
        self.models, self.settings = models, settings
        self._signals: list[int] = []

    def serve_at(self, listening: socket.socket) -> None:
        """Answer requests at a socket until a signal comes, or `should_exit` is set.

        Raises:
            Stopped: a signal came, and what was asked before is answered.
            ConfigError: something else began to listen there meanwhile.
        """
        outer = listener()
        for turns in self.models.turns:
            turns.start()
        try:
            asyncio.run(self.serve(sockets=[listening]))
        except OSError as error:
            raise _unusable(self.settings, error) from error
        finally:
            for turns in self.models.turns:
                turns.give_up()
            for turns in self.models.turns:
                turns.join(LAST)
            listening.close()
        if self._signals:
            _stop(outer, self._signals[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new requests, and wait for those that were taken."""
        self.gate.closed = True
        for turns in self.models.turns:
            turns.stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal."""
        self._signals.append(sig)
        self.force_exit = self.should_exit
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


def _stop(outer: Interrupt, number: int) -> None:
    """End the program as the other verbs do after a signal."""
    outer.stop(number)
