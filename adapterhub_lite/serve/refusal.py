"""What a client is told when its request is not answered, in the shape of OpenAI's errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from adapterhub_lite.errors import ConfigError, DataError, NotSupportedError, TrainingError

log = logging.getLogger("adapterhub_lite.serve")
OF_LIST, NOT_A_FILE = re.compile(r"^input (?=\d)"), re.compile("<list of rows>|<list>|<pyarrow Table>")
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        message: What is wrong, where, and what to do.
        param: The field of the request that it is about.
        code: For programs, as OpenAI names it where it has a name.
        headers: To send along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, headers

    def body(self) -> dict[str, Any]:
        """As JSON."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that is wrong itself."""
    return Refusal(400, message, param, code)


def stopping() -> Refusal:
    """What is said while the server stops."""
    return Refusal(503, "the server is stopping; ask again later", code="stopping", headers={"retry-after": "5"})


def refusal_of(error: BaseException, param: str | None = None) -> Refusal:
    """What a client is told of an error: why its request cannot be answered, and nothing of the insides of the server."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, (ConfigError, DataError, NotSupportedError)):
        # Rows of a request have no file; what readers and tasks call them is put into its words.
        return bad(NOT_A_FILE.sub("rows", OF_LIST.sub("rows, row ", str(error))), param)
    if isinstance(error, TrainingError):  # no room for a single row or prompt
        return Refusal(503, str(error), param, "out_of_memory")
    log.error("a request failed", exc_info=error)
    return Refusal(500, "the server failed at this request; its log says why", code="internal_error")
