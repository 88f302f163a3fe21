"""The exceptions of the service and the body of an error response.

Each subclass of `ApiError` is an error response: `web.error_handlers` sends its status, its error and its detail. The
OpenAPI document takes from it the description (the docstring) and the example (`example_detail`).
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

SEND_BUFFER_FULL = "the send buffer for large responses is full (AS_ALERTS_SEND_BUFFER_MIB)"
BODY_TOO_LARGE = "body: must be at most 1 MiB"
SHUTTING_DOWN = "the service is shutting down; the change may have been made"


class ErrorResponse(Struct, frozen=True):
    """The body of every error response."""

    error: Annotated[str, Meta(description="What kind of error it is: the same text for every error of this kind.")]
    detail: Annotated[
        str | None,
        Meta(description="What is wrong with this request, for a person to read. The wording may change."),
    ]


class StartupError(Exception):
    """The process cannot serve requests."""


class DatabaseNotReady(StartupError):
    """The database cannot be reached yet."""


class ApiError(Exception):
    """An error response: a status, the kind of error, and a detail that says what is wrong with this request."""

    status: ClassVar[HTTPStatus]
    error: ClassVar[str]
    example_detail: ClassVar[str | None] = None
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidHost(ApiError):
    """The `Host` header is not one of `AS_ALERTS_ALLOWED_HOSTS`, an IP address or `localhost`."""

    status = HTTPStatus.BAD_REQUEST
    error = "Bad request"
    example_detail = 'Host: "attacker.example" is not one of AS_ALERTS_ALLOWED_HOSTS, an IP address or localhost'


class ValidationFailed(ApiError):
    """A field, a parameter or a header is not valid. The detail names it and the reason."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    error = "Validation error"
    example_detail = 'severity: "urgent" is not one of low, medium, high, critical'


class UnsupportedMediaType(ApiError):
    """The body is declared as something other than JSON, or as compressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    error = "Unsupported media type"
    example_detail = "Content-Type: must be application/json"
    headers: Mapping[str, str] = {"Accept": "application/json", "Accept-Encoding": "identity"}


class BodyTooLarge(ApiError):
    """The body is larger than 1 MiB."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    error = "Body too large"
    example_detail = BODY_TOO_LARGE


class Unauthorized(ApiError):
    """The `x-service-key` header is missing or holds no valid key."""

    status = HTTPStatus.UNAUTHORIZED
    error = "Unauthorized"
    example_detail = "x-service-key: missing or not a valid service key"


class InvalidToken(Unauthorized):
    """The token is missing, has a wrong signature, has expired, names no tenant, or has an `aud` claim."""

    example_detail = "Authorization: must be Bearer and a tenant token"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """The tenant of the alert is not the tenant of the token."""

    status = HTTPStatus.FORBIDDEN
    error = "Forbidden"
    example_detail = "tenant_id: must be the token's own tenant"


class CrossSiteRequest(Forbidden):
    """A page of another site sent this request, and its origin is not one of `AS_ALERTS_CORS_ORIGINS`."""

    example_detail = (
        'Sec-Fetch-Site: "cross-site" is not one of same-origin, none, and Origin is not one of AS_ALERTS_CORS_ORIGINS'
    )


class AlertNotFound(ApiError):
    """The alert does not exist, or it is an alert of another tenant."""

    status = HTTPStatus.NOT_FOUND
    error = "Alert not found"


class Conflict(ApiError):
    """The status of the alert does not allow this transition, or the alert is in this status with another note."""

    status = HTTPStatus.CONFLICT
    error = "Conflict"
    example_detail = "already resolved at 2026-01-05T09:30:00+00:00 with another note; the note cannot be changed"


class IdempotencyConflict(ApiError):
    """The first request with this `Idempotency-Key` is still being processed."""

    status = HTTPStatus.CONFLICT
    error = "Request in progress"
    example_detail = "Idempotency-Key: the first request with this key is still running"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class PreconditionFailed(ApiError):
    """The alert has changed: its `ETag` is none of the tags in `If-Match`."""

    status = HTTPStatus.PRECONDITION_FAILED
    error = "Precondition failed"
    example_detail = 'If-Match: the entity tag of the alert is "2026-01-05T09:30:00+00:00"'


class TooManyRequests(ApiError):
    """The rate limit of this tenant or of this service key is exceeded."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    error = "Too many requests"
    example_detail = "rate limit of 100/minute for this tenant exceeded"

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(seconds)}


class LineTooLong(ApiError):
    """A line of a stream is longer than 64 KiB. The service does not read what follows it."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    error = "Line too long"


class IncompleteBody(ApiError):
    """The client disconnected before the end of the body. No client receives this response, but it is logged."""

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
    """The process has no memory left for the body of this request or for its response. Nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = SEND_BUFFER_FULL
    headers: Mapping[str, str] = {"Retry-After": "1"}


class DatabaseUnreachable(ApiError):
    """There is no connection to the database, or it was lost. A change may have been committed."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    error = "Database connection error"


class UnexpectedError(ApiError):
    """The service failed in a way that it does not expect. The reason is in its log only."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    error = "Internal server error"


class DatabaseBusy(ApiError):
    """The database has no capacity for this request. Nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "timed out waiting for the database"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class StatementTimeout(DatabaseBusy):
    """A statement that changes nothing exceeded `AS_ALERTS_STATEMENT_TIMEOUT`."""


class OutOfResources(DatabaseBusy):
    """PostgreSQL rolled the statement back for lack of memory, disk space or connections (SQLSTATE class 53)."""


class OutcomeUnknown(ApiError):
    """The outcome is unknown: the change may have been committed. This response has no `Retry-After` header."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "the statement timed out; the change may still have been made"


class Unhealthy(ApiError):
    """The database does not answer the health check within a second."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "the database does not answer"


def failure_reason(error: Exception) -> str | None:
    """Return why the service failed, for the access log, or None for an error of the client."""
    if not isinstance(error, ApiError):
        return "unhandled exception"
    return (error.detail or error.error) if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
