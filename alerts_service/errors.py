"""What can go wrong, and the one answer that it becomes.

Exception
├── StartError                    the process cannot serve; one line for whoever started it
│   └── NotYet                    its database is not there yet
└── Refusal                       an answer that is no success: status, error, detail
    ├── Invalid              422  the request breaks the contract
    ├── Unauthorized         401  an internal route without the right key
    ├── AlertNotFound        404  no such alert, or not this tenant's
    ├── Conflict             409  a move that the workflow does not allow
    ├── DatabaseUnreachable  500  there is no connection to the database, or it is lost
    ├── DatabaseBusy         503  the database had no time for this request
    ├── OutcomeUnknown       503  a change took too long, and may have been made all the same
    └── Unhealthy            503  the health check's own answer

HANDLERS turns these, Litestar's HTTP errors and everything unforeseen into an ErrorResponse.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap
from msgspec import Struct

from alerts_service.complaints import about_parameters
from alerts_service.responses import JSONResponse

logger = logging.getLogger(__name__)

AnyRequest = Request[Any, Any, Any]

# Python's own words for a status change with its version.
WORDS = {404: "Not found", 405: "Method not allowed", 413: "Body too large"}
DETAILS = {413: "a body may have 1 MiB"}


class ErrorResponse(Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: str
    detail: str | None


class StartError(Exception):
    """The process cannot serve."""


class NotYet(StartError):
    """The database cannot be reached, which may get better by waiting."""


class Refusal(Exception):
    """An answer that is no success."""

    status: ClassVar[HTTPStatus]
    error: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class Invalid(Refusal):
    """The request breaks the contract; the detail names the field and the reason."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    error = "Validation error"


class Unauthorized(Refusal):
    """An internal route was called without the right key."""

    status = HTTPStatus.UNAUTHORIZED
    error = "Unauthorized"


class AlertNotFound(Refusal):
    """There is no such alert, or it is another tenant's: nobody can tell which."""

    status = HTTPStatus.NOT_FOUND
    error = "Alert not found"


class Conflict(Refusal):
    """The workflow does not allow this move."""

    status = HTTPStatus.CONFLICT
    error = "Conflict"


class DatabaseUnreachable(Refusal):
    """There is no connection to the database, or it was lost on the way."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    error = "Database connection error"


class DatabaseBusy(Refusal):
    """No connection came free in time, or the statement took too long."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class OutcomeUnknown(Refusal):
    """A change took too long, and may have been made all the same: so nobody is asked to repeat it."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"


class Unhealthy(Refusal):
    """The database does not answer the health check."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"


def _refused(_: AnyRequest, refusal: Refusal) -> Response[ErrorResponse]:
    return _response(refusal.status, refusal.error, refusal.detail, refusal.headers)


def _http_error(request: AnyRequest, error: HTTPException) -> Response[ErrorResponse]:
    """Answer what Litestar raises; what it calls 400 is a validation error to us."""
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.BAD_REQUEST:
        return _response(Invalid.status, Invalid.error, about_parameters(error, request.route_handler))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unforeseen(request, error)
    headers = {"Allow": _allowed(error)} if status == HTTPStatus.METHOD_NOT_ALLOWED else None
    return _response(status, WORDS.get(status, status.phrase), DETAILS.get(status), headers)


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
    Refusal: _refused,
    HTTPException: _http_error,
    Exception: _unforeseen,
}
