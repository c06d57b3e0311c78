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
OPEN = "/health"
"""Answered without a token."""
TAKEN_IN = 8
"""How many times the largest body is taken in, and dropped, of one that is too large: clients may not read before they sent."""


class Gate:
    """Lets requests through to an ASGI application, which gets their bodies in one piece.

    Attributes:
        closed: Whether the server stops, and lets nothing in.
    """

    def __init__(self, app: Any, settings: Settings):
        self.app, self.settings = app, settings
        self.inside, self.closed = 0, False

    async def __call__(self, scope: Message, receive: Receive, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] == OPEN:
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        self.inside += 1
        try:
            self._check(headers)
            body = await self._body(headers, receive) if scope["method"] == "POST" else b""
        except Refusal as refusal:
            await JSONResponse(refusal.body(), refusal.status, refusal.headers)(scope, receive, send)
        else:
            whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def received() -> Message:
                return whole.pop() if whole else await receive()

            await self.app(scope, received, send)
        finally:
            self.inside -= 1

    def _check(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request by its headers.

        Raises:
            Refusal: no token or another one, too many requests, or the server stops.
        """
        if self.settings.token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            known = secrets.compare_digest(given.strip(), self.settings.token.encode())  # however much of it is right
            if scheme.lower() != b"bearer" or not known:
                message = "no token, or another one; send the header `Authorization: Bearer TOKEN`"
                raise Refusal(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        if self.closed:
            raise stopping()
        if self.inside > self.settings.connections:
            message = f"{self.settings.connections} requests are being handled; ask again later"
            raise Refusal(503, message, code="overloaded", headers={"retry-after": "1"})

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body of a request.

        Raises:
            Refusal: it is too large, too slow, or no JSON.
        """
        # JSON alone: a web page elsewhere can make a browser send anything else here without asking.
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise Refusal(415, "send JSON, with the header `Content-Type: application/json`", code="not_json")
        body, size, more = bytearray(), 0, True
        try:
            async with asyncio.timeout(self.settings.patience):
                while more and size <= TAKEN_IN * self.settings.max_bytes:
                    message = await receive()
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    body += part if size <= self.settings.max_bytes else b""
        except TimeoutError:
            raise Refusal(
                408, "the request did not arrive in time; send it faster", headers={"connection": "close"}
            ) from None
        if size > self.settings.max_bytes:
            said = f"the request is larger than {self.settings.max_mb:g} MB; send less at once"
            raise Refusal(413, said, code="request_too_large", headers={"connection": "close"})
        return bytes(body)
