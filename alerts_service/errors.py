"""The exceptions of the service, and the body of an error response.

Exception
├── StartupError                    the process cannot serve; one line for whoever started it
│   └── DatabaseNotReady                    its database is not there yet
└── ApiError                       an answer that is no success: status, error, detail
    ├── InvalidHost          400  the Host header is not an allowed name
    ├── Invalid              422  the request breaks the contract
    ├── UnsupportedMediaType              415  the body is something else, or compressed
    ├── Unauthorized         401  an internal route without the right key
    │   └── InvalidToken     401  a tenant's route without a good token
    ├── Forbidden            403  a change for another tenant than the token's, or sent by a page of another site
    ├── AlertNotFound        404  no such alert, or not this tenant's
    ├── Conflict             409  a move that the workflow does not allow
    ├── IdempotencyConflict         409  a request whose key came with another one that is not done
    ├── LineTooLong          413  a line of a stream that nobody should hold
    ├── Unfinished           408  the body did not come to its end
    ├── TooManyRequests      429  this tenant or this service key has called too often
    ├── Crowded              503  there is no room for this body, or for the response, beside the others
    ├── DatabaseUnreachable  500  there is no connection to the database, or it is lost
    ├── DatabaseBusy         503  the database had no time for this request
    │   ├── StatementTimeout 503  a read took too long
    │   └── OutOfResources   503  the server lacked memory, disk or connections, and did nothing
    ├── OutcomeUnknown       503  a change took too long, and may have been made all the same
    └── Unhealthy            503  the health check's own answer

`web.error_handlers` turns each into an ErrorResponse.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from msgspec import Struct

SEND_BUFFER_FULL = "the send buffer for large responses is full (AS_ALERTS_SEND_BUFFER_MIB)"
BODY_TOO_LARGE = "body: must be at most 1 MiB"
SHUTTING_DOWN = "the service is shutting down; the change may have been made"


class ErrorResponse(Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: str
    detail: str | None


class StartupError(Exception):
    """The process cannot serve."""


class DatabaseNotReady(StartupError):
    """The database cannot be reached, which may get better by waiting."""


class ApiError(Exception):
    """An answer that is no success."""

    status: ClassVar[HTTPStatus]
    error: ClassVar[str]
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidHost(ApiError):
    """The Host header names a host that is not in `AS_ALERTS_ALLOWED_HOSTS`."""

    status = HTTPStatus.BAD_REQUEST
    error = "Bad request"


class ValidationFailed(ApiError):
    """The request breaks the contract; the detail names the field and the reason."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    error = "Validation error"


class UnsupportedMediaType(ApiError):
    """The body is declared to be something else than JSON, or compressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    error = "Unsupported media type"
    headers: Mapping[str, str] = {"Accept": "application/json", "Accept-Encoding": "identity"}


class Unauthorized(ApiError):
    """An internal route was called without the right key."""

    status = HTTPStatus.UNAUTHORIZED
    error = "Unauthorized"


class InvalidToken(Unauthorized):
    """A tenant's route was called without a token, or with one that is not good (any more)."""

    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """The token's tenant may not do this for another one, or a page of another site sent the request."""

    status = HTTPStatus.FORBIDDEN
    error = "Forbidden"


class AlertNotFound(ApiError):
    """There is no such alert, or it is another tenant's: nobody can tell which."""

    status = HTTPStatus.NOT_FOUND
    error = "Alert not found"


class Conflict(ApiError):
    """The workflow does not allow this move."""

    status = HTTPStatus.CONFLICT
    error = "Conflict"


class IdempotencyConflict(ApiError):
    """The first request with this key is not done, so nobody knows its answer yet."""

    status = HTTPStatus.CONFLICT
    error = "Request in progress"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class PreconditionFailed(ApiError):
    """The alert is no longer as the caller knows it."""

    status = HTTPStatus.PRECONDITION_FAILED
    error = "Precondition failed"


class TooManyRequests(ApiError):
    """A tenant or a service key has called too often; the detail names the limit."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    error = "Too many requests"

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(seconds)}


class LineTooLong(ApiError):
    """A line of a stream is longer than we hold; what comes behind it is not read."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    error = "Line too long"


class IncompleteBody(ApiError):
    """The body did not come to its end: nobody is there to read this, but it is logged as what it is."""

    status = HTTPStatus.REQUEST_TIMEOUT
    error = "Request timeout"


class RequestTimeout(ApiError):
    """The client did not send the rest of its request in time. The connection is closed."""

    status = HTTPStatus.REQUEST_TIMEOUT
    error = "Request timeout"
    headers: Mapping[str, str] = {"Connection": "close"}


class MalformedRequest(ApiError):
    """The client sent something that is not HTTP. The connection is closed."""

    status = HTTPStatus.BAD_REQUEST
    error = "Bad request"


class HeadTooLarge(ApiError):
    """The request line and headers exceed 64 KiB. The connection is closed."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    error = "Head too large"


class ServiceOverloaded(ApiError):
    """The process has no room for the body of this request, or for the response to it, beside the others."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class DatabaseUnreachable(ApiError):
    """There is no connection to the database, or it was lost on the way."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    error = "Database connection error"


class DatabaseBusy(ApiError):
    """No connection came free in time, or the statement took too long."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class StatementTimeout(DatabaseBusy):
    """A statement that changes nothing did not finish in time."""


class OutOfResources(DatabaseBusy):
    """The server lacked memory, disk space or connections, and undid the statement (SQLSTATE class 53)."""


class OutcomeUnknown(ApiError):
    """A change took too long, and may have been made all the same: so nobody is asked to repeat it."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"


class Unhealthy(ApiError):
    """The database does not answer the health check."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"


def failure_reason(error: Exception) -> str | None:
    """Say what failed on our side, if it did."""
    if not isinstance(error, ApiError):
        return "unforeseen"
    return (error.detail or error.error) if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
