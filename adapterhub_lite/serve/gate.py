"""What every request passes first: the token, the limits, and its body read in time and in whole."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from adapterhub_lite.serve.refusal import Refusal, stopping
from adapterhub_lite.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
OPEN = "/health"
"""Answered without a token, and while the server stops."""


class Gate:
    """Lets requests through to an ASGI application.

    Args:
        app: Gets the requests, their bodies in one piece.
        settings: The token and the limits.
    """

    def __init__(self, app: Any, settings: Settings):
        self.app, self.settings = app, settings
        self.inside = 0
        self.closed = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request, or the beginning and the end of the server."""
        if scope["type"] != "http" or scope["path"] == OPEN:
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        self.inside += 1
        try:
            self._check(headers)
            receive = await self._received(scope, headers, receive)
            await self.app(scope, receive, send)
        except Refusal as refusal:
            await JSONResponse(refusal.body(), refusal.status, refusal.headers)(scope, receive, send)
        except _Gone:
            pass
        finally:
            self.inside -= 1

    def _check(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request by its headers.

        Raises:
            Refusal: no token or another one, too many requests, or the server stops.
        """
        token = self.settings.token
        if token is not None:
            given = headers.get(b"authorization", b"").partition(b" ")
            known = secrets.compare_digest(given[2].strip(), token.encode())  # however much of it is right
            if given[0].lower() != b"bearer" or not known:
                raise Refusal(
                    401, "no token, or another one; send the header `Authorization: Bearer TOKEN`",
                    code="invalid_api_key", www_authenticate="Bearer",
                )  # fmt: skip
        if self.closed:
            raise stopping()
        if self.inside > self.settings.connections:
            raise Refusal(503, "too many requests at once; ask again later", code="overloaded", retry_after="1")

    async def _received(self, scope: Message, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """The whole body, to be received at once; then whatever comes after it.

        Raises:
            Refusal: it is too large, too slow, or no JSON.
        """
        if scope["method"] != "POST":
            return receive
        # JSON alone: a web page elsewhere can make a browser send anything else here without asking.
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise Refusal(415, "the header `Content-Type: application/json` is missing; send JSON", code="not_json")
        body, most = bytearray(), self.settings.max_bytes
        length = headers.get(b"content-length", b"")
        too_large = length.isdigit() and int(length) > most
        try:
            async with asyncio.timeout(self.settings.patience):
                more = True
                while more and not too_large:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    body += message.get("body", b"")
                    more, too_large = message.get("more_body", False), len(body) > most
        except TimeoutError:
            raise Refusal(408, "the request did not arrive in time; send it faster", connection="close") from None
        if too_large:
            body.clear()
            await self._drain(receive)
            raise Refusal(
                413, f"the request is larger than {self.settings.max_mb:g} MB; send less at once",
                code="request_too_large", connection="close",
            )  # fmt: skip
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def received() -> Message:
            return whole.pop() if whole else await receive()

        return received

    async def _drain(self, receive: Receive) -> None:
        """Take in a little more of what is too large, and drop it: many clients read no answer before they have sent all."""
        seen = 0
        try:
            async with asyncio.timeout(min(2.0, self.settings.patience)):
                while seen < 8 * self.settings.max_bytes:
                    message = await receive()
                    seen += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return


class _Gone(Exception):
    """The client went away."""
