"""What every exchange goes through before Litestar and after it: a request id, a log line, HEAD and OPTIONS.

Litestar's middleware does not see unknown paths, and its handlers cannot answer HEAD; so this stands around the whole
application.
"""

import asyncio
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from http import HTTPStatus
from time import perf_counter
from typing import Any

from litestar import Litestar
from litestar.config.cors import CORSConfig
from uuid_utils import uuid4

from alerts_service.errors import ApiError, ErrorResponse, OutcomeUnknown, StartupError
from alerts_service.logging_config import request_id
from alerts_service.web.access_log import AccessLog, RequestLine
from alerts_service.web.cross_site import CrossSiteProtection
from alerts_service.web.responses import JSONResponse

access_log = AccessLog()

REQUEST_ID_HEADER = b"x-request-id"
NO_SNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")  # of each response that does not say itself how it may be cached
VARY = (b"vary", b"Origin")
PREFLIGHT_HEADERS = (b"origin", b"access-control-request-method")
ACCEPTABLE_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)

# What is left to say to a request that the server gives up because it stops.
STOPPED = JSONResponse(
    ErrorResponse(OutcomeUnknown.error, "the service stops; a change may still have been made"),
    status_code=OutcomeUnknown.status,
).to_asgi_response()

# HEAD is GET without the body. No route takes the method ALLOW, so its 405 lists all that the path does take, which
# is what OPTIONS asks for.
INNER_METHOD = {"HEAD": "GET", "OPTIONS": "ALLOW"}


class AlertsApp(Litestar):
    """The application that a server runs."""

    def __init__(self, *, protection: CrossSiteProtection, **options: Any) -> None:
        super().__init__(**options)
        self._protection = protection

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or start and stop."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, _first_the_log(send) if scope["type"] == "lifespan" else send)
            return
        started = perf_counter()
        line = request_line(scope)
        request_id.set(line.request_id)

        def respond(message: Any) -> Any:
            if message["type"] == "http.response.start":
                line.status = line.status or message["status"]
                message["headers"] = self._with_common_headers(message["headers"], line.request_id)
            return send(message)

        try:
            rejection = self._protection.rejection(scope)
            app = super().__call__ if rejection is None else _error_response(rejection)
            if rejection is not None and rejection.detail is not None:
                line.reason = rejection.detail
            inner_method = INNER_METHOD.get(line.method)
            if inner_method and not (self.cors_config and _is_good_preflight(scope, self.cors_config)):
                inner: Any = {**scope, "method": inner_method}
                await app(inner, receive, _without_body(line.method, respond))
            else:
                await app(scope, receive, respond)
        except asyncio.CancelledError:
            if line.status is not None:
                raise
            await STOPPED(scope, receive, respond)
        finally:
            access_log.write(line, perf_counter() - started)

    def _with_common_headers(self, headers: list[tuple[bytes, bytes]], id_: str) -> list[tuple[bytes, bytes]]:
        """Add the headers that every response has."""
        complete = [*headers, NO_SNIFF, (REQUEST_ID_HEADER, id_.encode())]
        for name, _ in headers:
            if name == b"cache-control":
                break
        else:
            complete.append(NO_STORE)
        if self.cors_config is not None and VARY not in headers:
            complete.append(VARY)
        return complete


def _error_response(rejection: ApiError) -> Any:
    """Return an ASGI application that answers with an error."""
    body = ErrorResponse(rejection.error, rejection.detail)
    return JSONResponse(body, status_code=rejection.status, headers=rejection.headers).to_asgi_response()


def request_line(scope: Any) -> RequestLine:
    """Begin the line of a request, or find it begun, with a status where the server answered in our place."""
    line: RequestLine | None = scope.get("line")
    if line is None:
        now = datetime.now(timezone.utc)
        line = scope["line"] = RequestLine(now, scope["method"], scope["path"], _request_id(scope["headers"]))
    return line


def _is_good_preflight(scope: Any, cors: CORSConfig) -> bool:
    """Whether a browser asks if a page of another origin may send a request, and it may.

    Else it is an OPTIONS like any other, whose answer allows the browser nothing.
    """
    headers = dict(scope["headers"])
    origin, method = (headers.get(name, b"").decode("latin-1") for name in PREFLIGHT_HEADERS)
    return scope["method"] == "OPTIONS" and cors.is_origin_allowed(origin) and method in cors.allow_methods


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Take the caller's id if it is one that a header and a log can carry, else make one."""
    for name, value in headers:
        if name == REQUEST_ID_HEADER and ACCEPTABLE_ID.fullmatch(value):
            return value.decode()
    return uuid4().hex


def _without_body(method: str, send: Any) -> Any:
    """Turn the answer to the inner method into the one to HEAD or OPTIONS. An unknown path stays one for OPTIONS."""
    empty = method == "HEAD"

    def respond(message: Any) -> Any:
        nonlocal empty
        if message["type"] == "http.response.start":
            if method == "OPTIONS" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
                empty = True
                allow = [header for header in message["headers"] if header[0] == b"allow"]
                message = {**message, "status": HTTPStatus.NO_CONTENT.value, "headers": allow}
        elif empty:
            message = {**message, "body": b""}
        return send(message)

    return respond


def _first_the_log(send: Any) -> Any:
    """Write what waits to be logged before the server hears of the end, which is the end of everything.

    Leave the traceback out of a start that failed for a reason that we know, also when that showed only later.
    """

    async def report(message: Any) -> None:
        if message["type"].startswith("lifespan.shutdown"):
            await access_log.close()
        if message["type"] in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
            _, known, reason = message["message"].rpartition(f"{StartupError.__name__}: ")
            message["message"] = reason.splitlines()[0] if known else message["message"]
        await send(message)

    return report
