"""Exception handlers: turn exceptions into error responses."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from alerts_service.errors import (
    SEND_BUFFER_FULL,
    ApiError,
    ErrorResponse,
    OutcomeUnknown,
    ServiceOverloaded,
    UnexpectedError,
    ValidationFailed,
    failure_reason,
)
from alerts_service.logging_config import request_context
from alerts_service.web.responses import JSONResponse
from alerts_service.web.send_buffer import SendBufferFull
from alerts_service.web.validation_messages import describe_parameter_errors

logger = logging.getLogger(__name__)

AnyRequest = Request[Any, Any, Any]

# Errors that Litestar raises. The phrases of HTTPStatus have other capitals ("Not Found").
ERRORS_BY_STATUS = {404: "Not found", 405: "Method not allowed"}


def error_response(_: AnyRequest, error: ApiError) -> Response[ErrorResponse]:
    """Build the response for an ApiError, and add the reason of a server error to the line in the access log."""
    context = request_context.get()
    if context is not None and (reason := failure_reason(error)):
        context.reason = reason
    return _response(error.status, error.error, error.detail, error.headers)


def _http_error_response(request: AnyRequest, error: HTTPException) -> Response[ErrorResponse]:
    """Build the response for an exception of Litestar. A validation error of status 400 becomes a 422."""
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.BAD_REQUEST:
        handler = request.scope.get("route_handler")  # missing if Litestar rejects a header before routing
        detail = describe_parameter_errors(error, handler) if handler else error.detail
        return _response(ValidationFailed.status, ValidationFailed.error, detail)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _internal_error_response(request, error)
    headers = {"Allow": _allowed_methods(error)} if status == HTTPStatus.METHOD_NOT_ALLOWED else None
    return _response(status, ERRORS_BY_STATUS.get(status, status.phrase), headers=headers)


def _send_buffer_full_response(request: AnyRequest, _: SendBufferFull) -> Response[ErrorResponse]:
    """Return 503 for a response for which the send buffer has no room. Only the 503 to a GET has `Retry-After`."""
    if request.method == "GET":
        return error_response(request, ServiceOverloaded(SEND_BUFFER_FULL))
    return error_response(request, OutcomeUnknown(f"the request was processed, but {SEND_BUFFER_FULL}"))


def _internal_error_response(request: AnyRequest, error: Exception) -> Response[ErrorResponse]:
    """Log an unhandled exception, and return 500 without its text, which may contain SQL or stored values."""
    context = request_context.get()
    if context is not None:
        context.reason = "unhandled exception"
    logger.error("unhandled exception", extra={"method": request.method, "path": request.url.path}, exc_info=error)
    return _response(UnexpectedError.status, UnexpectedError.error)


def _response(
    status: HTTPStatus, error: str, detail: str | None = None, headers: Mapping[str, str] | None = None
) -> Response[ErrorResponse]:
    return JSONResponse(ErrorResponse(error, detail), status_code=status, headers=headers)


def _allowed_methods(error: HTTPException) -> str:
    """Return the value of `Allow`. Litestar omits HEAD, which the middleware accepts on every GET route."""
    methods = set((error.headers or {})["allow"].split(", "))
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


HANDLERS: ExceptionHandlersMap = {
    ApiError: error_response,
    SendBufferFull: _send_buffer_full_response,
    HTTPException: _http_error_response,
    Exception: _internal_error_response,
}
