"""What a client is told when its request is not answered, in the shape of OpenAI's errors."""

from __future__ import annotations

import logging
import re
from typing import Any

from adapterhub_lite.errors import AdapterHubError, ConfigError, DataError, NotSupportedError, TrainingError

log = logging.getLogger("adapterhub_lite.serve")

OF_CLIENT = (ConfigError, DataError, NotSupportedError)
"""Errors that another request would not meet."""


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        message: What is wrong, where, and what to do.
        param: The field of the request that it is about.
        code: For programs, as OpenAI names it where it has a name.
        headers: To send along.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> dict[str, Any]:
        """As JSON."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that is wrong itself."""
    return Refusal(400, message, param, code)


def stopping() -> Refusal:
    """What is said while the server stops."""
    return Refusal(503, "the server is stopping; ask again later", code="stopping", retry_after="5")


def refusal_of(error: BaseException, param: str | None = None) -> Refusal:
    """What a client is told of an error: why its request cannot be answered, and nothing of the insides of the server."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OF_CLIENT):
        # Rows of a request have no file; what readers and tasks call them is put into its words.
        message = re.sub(r"^input (?=\d)", "rows, row ", str(error))
        return bad(message.replace("<list of rows>", "rows").replace("<list>", "rows"), param)
    if isinstance(error, TrainingError):  # no room for a single row or prompt
        return Refusal(503, str(error), param, "out_of_memory")
    log.error("a request failed: %s", error, exc_info=None if isinstance(error, AdapterHubError) else error)
    return Refusal(500, "the server failed at this request; its log says why", code="internal_error")
