"""The application class, which handles request IDs, the access log, common headers, HEAD and OPTIONS.

Litestar does not call its own middleware for unknown paths, and rejects HEAD on the routes of GET. Therefore this class
wraps the call of the application.
"""

import asyncio
import re
from datetime import datetime, timezone
from http import HTTPStatus
from time import perf_counter
from typing import Any

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp, HTTPScope, Message, Send
from uuid_utils import uuid4

from alerts_service.errors import SHUTTING_DOWN, ApiError, ErrorResponse, OutcomeUnknown, ShuttingDown, StartupError
from alerts_service.logging_config import RequestContext, request_context
from alerts_service.web.access_log import access_log
from alerts_service.web.cross_site import SAFE_METHODS, CrossSiteProtection, Headers
from alerts_service.web.responses import JSONResponse

REQUEST_ID_HEADER = b"x-request-id"
NO_SNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")  # for responses without their own Cache-Control
VARY = (b"vary", b"Origin")
PREFLIGHT_HEADERS = (b"origin", b"access-control-request-method")
REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)

# The methods that Litestar routes in place of HEAD and OPTIONS. HEAD is GET without the body. No route has the method
# ALLOW, so Litestar responds with 405. Its `Allow` header becomes the response to OPTIONS.
ROUTED_METHOD = {"HEAD": "GET", "OPTIONS": "ALLOW"}


class AlertsApp(Litestar):
    """The ASGI application: Litestar, with the features of this module around each request."""

    def __init__(self, *, protection: CrossSiteProtection, **options: Any) -> None:
        super().__init__(**options)
        self._protection = protection

    async def __call__(
        self, scope: Any, receive: Any, send: Any
    ) -> None:  # servers and Litestar have different ASGI types
        """Respond to a request, or process the startup and shutdown of the server."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, _with_lifespan_reports(send))
            return
        started = perf_counter()
        context = new_request_context(scope["method"], scope["path"], scope["headers"])
        request_context.set(context)

        def respond(message: Message) -> Any:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = self._with_common_headers(message["headers"], context.request_id)
            return send(message)

        try:
            rejection = self._protection.rejection(scope)
            app = super().__call__ if rejection is None else _error_response(rejection)
            if rejection is not None and rejection.detail is not None:
                context.reason = rejection.detail
            routed_method = ROUTED_METHOD.get(context.method)
            if routed_method and not (self.cors_config and _is_accepted_preflight(scope, self.cors_config)):
                routed: Any = {**scope, "method": routed_method}
                await app(routed, receive, _without_body(context.method, respond))
            else:
                await app(scope, receive, respond)
        except asyncio.CancelledError:  # uvicorn cancels requests only at the end of a shutdown
            if context.status is not None:
                raise
            context.reason = "shutdown"
            await _shutdown_response(context.method)(scope, receive, _without_body(context.method, respond))
        finally:
            access_log.write(context, perf_counter() - started)

    def _with_common_headers(self, headers: Headers, request_id: str) -> list[tuple[bytes, bytes]]:
        """Add the headers that every response has."""
        complete = [*headers, NO_SNIFF, (REQUEST_ID_HEADER, request_id.encode())]
        for name, _ in headers:
            if name == b"cache-control":
                break
        else:
            complete.append(NO_STORE)
        if self.cors_config is not None and VARY not in headers:
            complete.append(VARY)
        return complete


def _error_response(error: ApiError) -> ASGIApp:
    """Return an ASGI application that responds with an error."""
    body = ErrorResponse(error.error, error.detail)
    app: ASGIApp = JSONResponse(body, status_code=error.status, headers=error.headers).to_asgi_response()
    return app


def _shutdown_response(method: str) -> ASGIApp:
    """Return the response to a request that the shutdown cancels."""
    if method in SAFE_METHODS:
        return _error_response(ShuttingDown(ShuttingDown.example_detail))
    return _error_response(OutcomeUnknown(SHUTTING_DOWN))


def new_request_context(method: str, path: str, headers: Headers) -> RequestContext:
    """Return the context of a request that starts at this time."""
    return RequestContext(datetime.now(timezone.utc), method, path, _request_id(headers))


def _is_accepted_preflight(scope: HTTPScope, cors: CORSConfig) -> bool:
    """Return whether a request is a CORS preflight that Litestar accepts.

    The response to other OPTIONS requests lists the methods of the path and has no CORS headers.
    """
    headers = dict(scope["headers"])
    origin, method = (headers.get(name, b"").decode("latin-1") for name in PREFLIGHT_HEADERS)
    return scope["method"] == "OPTIONS" and cors.is_origin_allowed(origin) and method in cors.allow_methods


def _request_id(headers: Headers) -> str:
    """Return the request ID of the client if the ID is safe in headers and logs, else a new request ID."""
    for name, value in headers:
        if name == REQUEST_ID_HEADER and REQUEST_ID.fullmatch(value):
            return value.decode()
    return uuid4().hex


def _without_body(method: str, send: Any) -> Send:
    """Convert a response of the routed method for HEAD or OPTIONS.

    For other methods, and for OPTIONS of an unknown path, the response is unchanged.
    """
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


def _with_lifespan_reports(send: Any) -> Send:
    """Wrap `send` for the messages of startup and shutdown.

    The pending lines of the access log are written before the message that the shutdown is complete. The traceback of a
    StartupError is replaced with its text, also if the error is raised during shutdown.
    """

    async def report(message: Any) -> None:
        if message["type"].startswith("lifespan.shutdown"):
            await access_log.close()
        if message["type"] in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
            _, is_startup_error, reason = message["message"].rpartition(f"{StartupError.__name__}: ")
            message["message"] = reason.splitlines()[0] if is_startup_error else message["message"]
        await send(message)

    return report
