"""FairSemaphore exceptions into error responses."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from alerts_service.errors import (
    BODY_TOO_LARGE,
    SEND_BUFFER_FULL,
    ApiError,
    ErrorResponse,
    OutcomeUnknown,
    ServiceOverloaded,
    ValidationFailed,
    failure_reason,
)
from alerts_service.logging_config import request_context
from alerts_service.web.responses import JSONResponse
from alerts_service.web.send_buffer import SendBufferFull
from alerts_service.web.validation_messages import describe_parameter_errors

logger = logging.getLogger(__name__)

AnyRequest = Request[Any, Any, Any]

# The phrases of HTTPStatus differ between versions of Python.
WORDS = {404: "Not found", 405: "Method not allowed", 413: "Body too large"}
DETAILS = {413: BODY_TOO_LARGE}


def error_response(request: AnyRequest, refusal: ApiError) -> Response[ErrorResponse]:  # noqa: ARG001 - the signature of an exception handler
    """Answer with a refusal."""
    context = request_context.get()
    if context is not None and (reason := failure_reason(refusal)):
        context.reason = reason
    return _response(refusal.status, refusal.error, refusal.detail, refusal.headers)


def _http_error(request: AnyRequest, error: HTTPException) -> Response[ErrorResponse]:
    """Answer what Litestar raises; what it calls 400 is a validation error to us."""
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.BAD_REQUEST:
        handler = request.scope.get("route_handler")  # none has been found yet where a header is refused
        detail = describe_parameter_errors(error, handler) if handler else error.detail
        return _response(ValidationFailed.status, ValidationFailed.error, detail)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unforeseen(request, error)
    headers = {"Allow": _allowed(error)} if status == HTTPStatus.METHOD_NOT_ALLOWED else None
    return _response(status, WORDS.get(status, status.phrase), DETAILS.get(status), headers)


def _send_buffer_full(request: AnyRequest, _: SendBufferFull) -> Response[ErrorResponse]:
    """Return 503 for a response that does not fit in the send buffer. Only a GET gets `Retry-After`."""
    if request.method == "GET":
        return error_response(request, ServiceOverloaded(SEND_BUFFER_FULL))
    return error_response(request, OutcomeUnknown(f"the request was processed, but {SEND_BUFFER_FULL}"))


def _unforeseen(request: AnyRequest, error: Exception) -> Response[ErrorResponse]:
    """Keep a traceback, SQL or a value from the database in the log: the caller learns nothing of it."""
    logger.error("Unforeseen error in %s %s", request.method, request.url.path, exc_info=error)
    return _response(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error")


def _response(
    status: HTTPStatus, error: str, detail: str | None = None, headers: Mapping[str, str] | None = None
) -> Response[ErrorResponse]:
    return JSONResponse(ErrorResponse(error, detail), status_code=status, headers=headers)


def _allowed(error: HTTPException) -> str:
    """List the methods that a path takes. Where GET is, HEAD is too, which Litestar does not know."""
    methods = set((error.headers or {})["allow"].split(", "))
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


HANDLERS: ExceptionHandlersMap = {
    ApiError: error_response,
    SendBufferFull: _send_buffer_full,
    HTTPException: _http_error,
    Exception: _unforeseen,
}
