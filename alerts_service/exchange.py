"""What every exchange goes through before Litestar and after it: a request id, a log line, HEAD and OPTIONS.

Litestar's middleware does not see unknown paths, and its handlers cannot answer HEAD; so this stands around the whole
application.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from random import getrandbits
from time import perf_counter
from typing import Any

from litestar import Litestar
from litestar.types import Receive, Send

from alerts_service.errors import StartError
from alerts_service.logs import AccessLog, request_id

access_log = AccessLog()

REQUEST_ID_HEADER = b"x-request-id"
ACCEPTABLE_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)

# HEAD is GET without the body. No route takes the method ALLOW, so its 405 lists all that the path does take, which
# is what OPTIONS asks for.
INNER_METHOD = {"HEAD": "GET", "OPTIONS": "ALLOW"}


class Service(Litestar):
    """The application that a server runs."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or start and stop."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await super().__call__(scope, receive, _in_one_line(send))
            access_log.flush()
        else:
            await super().__call__(scope, receive, send)

    async def _answer(self, scope: Any, receive: Receive, send: Send) -> None:
        method, status, started = scope["method"], None, perf_counter()
        id_ = _request_id(scope["headers"])
        request_id.set(name := id_.decode())

        async def respond(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                message = _options(message) if method == "OPTIONS" else message
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, id_)]
            elif method == "HEAD" or status == HTTPStatus.NO_CONTENT:
                message = {**message, "body": b""}
            await send(message)

        inner: Any = {**scope, "method": INNER_METHOD[method]} if method in INNER_METHOD else scope
        try:
            await super().__call__(inner, receive, respond)
        finally:
            access_log.write(method, scope["path"], status, round((perf_counter() - started) * 1000, 2), name)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Take the caller's id if it is one that a header and a log can carry, else make one."""
    for name, value in headers:
        if name == REQUEST_ID_HEADER and ACCEPTABLE_ID.fullmatch(value):
            return value
    return b"%032x" % getrandbits(128)


def _options(message: dict[str, Any]) -> dict[str, Any]:
    """Turn the 405 of a method that no route takes into the answer to OPTIONS. An unknown path stays one."""
    if message["status"] != HTTPStatus.METHOD_NOT_ALLOWED:
        return message
    allow = [header for header in message["headers"] if header[0] == b"allow"]
    return {**message, "status": HTTPStatus.NO_CONTENT.value, "headers": allow}


def _in_one_line(send: Any) -> Any:
    """Leave the traceback out of a start that failed for a reason that we know."""

    async def report(message: Any) -> None:
        if message["type"] == "lifespan.startup.failed":
            _, known, reason = message["message"].rpartition(f"{StartError.__name__}: ")
            message["message"] = reason.splitlines()[0] if known else message["message"]
        await send(message)

    return report
