"""The exceptions of the service and the body of an error response.

Each subclass of `ApiError` is an error response: `web.error_handlers` sends its status, error and detail. The docstring
of the subclass is the description of the response in the OpenAPI document, and `example_detail` is its example.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

SEND_BUFFER_FULL = "the send buffer for large responses is full (AS_ALERTS_SEND_BUFFER_MIB)"
BODY_TOO_LARGE = "body: must be at most 1 MiB"
SHUTTING_DOWN = "the service is shutting down; the change may have been made"
NOT_OWN_TENANT = "tenant_id: must be the token's own tenant"


class ErrorResponse(Struct, frozen=True):
    """The body of every error response."""

    error: Annotated[str, Meta(description="The kind of the error. All errors of a kind have the same text.")]
    detail: Annotated[
        str | None,
        Meta(description="The cause of the error in this request, for a person to read. The wording may change."),
    ]


class StartupError(Exception):
    """The process cannot serve requests."""


class DatabaseNotReady(StartupError):
    """The database cannot be reached yet."""


class ApiError(Exception):
    """An error response: a status, the kind of the error, and its cause in this request."""

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
    """A field, parameter or header is not valid. The detail has its name and the reason."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    error = "Validation error"
    example_detail = 'severity: "urgent" is not one of low, medium, high, critical'


class UnsupportedMediaType(ApiError):
    """The declared media type is not accepted, a browser declared none, or the body is compressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    error = "Unsupported media type"
    example_detail = "Content-Type: must be application/json"

    def __init__(self, detail: str, media_types: Sequence[str]) -> None:
        super().__init__(detail)
        self.headers = {"Accept": ", ".join(media_types), "Accept-Encoding": "identity"}


class BodyTooLarge(ApiError):
    """The body is larger than 1 MiB."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    error = "Body too large"
    example_detail = BODY_TOO_LARGE


class Unauthorized(ApiError):
    """The `x-service-key` header is missing or is not a valid service key."""

    status = HTTPStatus.UNAUTHORIZED
    error = "Unauthorized"
    example_detail = "x-service-key: missing or not a valid service key"


class InvalidToken(Unauthorized):
    """The token is missing, malformed, expired or wrongly signed, has no `tenant_id`, or has an `aud` claim."""

    example_detail = "Authorization: must be `Bearer` followed by a tenant token"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """The request names a tenant other than the token's."""

    status = HTTPStatus.FORBIDDEN
    error = "Forbidden"
    example_detail = NOT_OWN_TENANT

    def __init__(self, detail: str = NOT_OWN_TENANT) -> None:
        super().__init__(detail)


class CrossSiteRequest(Forbidden):
    """A page of another origin sent this request, and the origin is not one of `AS_ALERTS_CORS_ORIGINS`."""

    example_detail = (
        'Sec-Fetch-Site: "cross-site" is not one of same-origin, none, and Origin is not one of AS_ALERTS_CORS_ORIGINS'
    )


class AlertNotFound(ApiError):
    """The alert does not exist, or belongs to another tenant."""

    status = HTTPStatus.NOT_FOUND
    error = "Alert not found"


class Conflict(ApiError):
    """The alert's status does not allow the transition, or is already the target status with another note."""

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
    """The `ETag` of the alert is not one of the entity tags in `If-Match`."""

    status = HTTPStatus.PRECONDITION_FAILED
    error = "Precondition failed"
    example_detail = 'If-Match: the entity tag of the alert is "2026-01-05T09:30:00+00:00"'


class TooManyRequests(ApiError):
    """The rate limit of the tenant or of the service key is exceeded."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    error = "Too many requests"
    example_detail = "rate limit of 100/minute for this tenant exceeded"

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(seconds)}


class LineTooLong(ApiError):
    """A line of an NDJSON stream exceeds 64 KiB. This line and the lines after it are not processed."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    error = "Line too long"


class IncompleteBody(ApiError):
    """The client disconnected before the end of the body. The response is logged, but cannot be sent."""

    status = HTTPStatus.REQUEST_TIMEOUT
    error = "Request timeout"


class RequestTimeout(ApiError):
    """The rest of the request did not arrive within `AS_ALERTS_REQUEST_TIMEOUT`. The connection is closed."""

    status = HTTPStatus.REQUEST_TIMEOUT
    error = "Request timeout"
    example_detail = "the request body must arrive within 10 s"
    headers: Mapping[str, str] = {"Connection": "close"}


class MalformedRequest(ApiError):
    """The request is not HTTP/1.0 or HTTP/1.1, or its method is CONNECT. The connection is closed."""

    status = HTTPStatus.BAD_REQUEST
    error = "Bad request"


class HeadTooLarge(ApiError):
    """The request line and headers exceed 64 KiB. The connection is closed."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    error = "Head too large"


class ServiceOverloaded(ApiError):
    """A process limit is reached: request bodies, unsent responses or queued bulk requests. Nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = SEND_BUFFER_FULL
    headers: Mapping[str, str] = {"Retry-After": "1"}


class DatabaseUnreachable(ApiError):
    """The database connection failed. If the request was a change, the change may have been committed."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    error = "Database connection error"


class UnexpectedError(ApiError):
    """An unexpected error occurred. If the request was a change, the change may have been committed."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    error = "Internal server error"


class DatabaseBusy(ApiError):
    """The database could not execute the request in time. Nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "timed out waiting for the database"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class StatementTimeout(DatabaseBusy):
    """A statement exceeded `AS_ALERTS_STATEMENT_TIMEOUT`. Nothing was changed."""


class OutOfResources(DatabaseBusy):
    """PostgreSQL rolled the statement back for lack of memory, disk space or connections (SQLSTATE class 53)."""


class ShuttingDown(ApiError):
    """The service is shutting down. Nothing was changed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "the service is shutting down; nothing was changed"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class OutcomeUnknown(ApiError):
    """The outcome is unknown: the change may have been committed. This response has no `Retry-After` header."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "the statement timed out; the change may still have been made"


class Unhealthy(ApiError):
    """The database did not respond to the health check within one second."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    error = "Service unavailable"
    example_detail = "the database does not answer"


def failure_reason(error: Exception) -> str | None:
    """Return the reason of a server error for the access log, or None for a client error."""
    if not isinstance(error, ApiError):
        return "unhandled exception"
    return (error.detail or error.error) if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
