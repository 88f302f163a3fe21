"""The error responses of an operation: descriptions, examples and headers, from the exceptions in `errors`."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from inspect import getdoc
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIHeader, OpenAPIResponse, Operation

from alerts_service.errors import (
    AlertNotFound,
    ApiError,
    BodyTooLarge,
    Conflict,
    CrossSiteRequest,
    DatabaseBusy,
    DatabaseUnreachable,
    ErrorResponse,
    Forbidden,
    IdempotencyConflict,
    InvalidToken,
    OutcomeUnknown,
    PreconditionFailed,
    ServiceOverloaded,
    TooManyRequests,
    Unauthorized,
    UnexpectedError,
    Unhealthy,
    UnsupportedMediaType,
    ValidationFailed,
)
from alerts_service.web.openapi.components import (
    ACCEPT,
    ACCEPT_ENCODING,
    SERVICE_KEY,
    TENANT_TOKEN,
    WWW_AUTHENTICATE,
    retry_after,
)
from alerts_service.web.openapi.examples import verbatim

JSON = "application/json"
CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")

# The errors that an operation may return with the statuses that it declares. Each other exception is a subclass of one
# of these, belongs to a line of a stream, or is sent before the operation is known.
DOCUMENTED: tuple[type[ApiError], ...] = (
    Unauthorized,
    InvalidToken,
    Forbidden,
    CrossSiteRequest,
    AlertNotFound,
    Conflict,
    IdempotencyConflict,
    PreconditionFailed,
    BodyTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    TooManyRequests,
    DatabaseUnreachable,
    UnexpectedError,
    DatabaseBusy,
    ServiceOverloaded,
    OutcomeUnknown,
    Unhealthy,
)
HEADERS: dict[type[ApiError], dict[str, OpenAPIHeader]] = {
    InvalidToken: {"WWW-Authenticate": WWW_AUTHENTICATE},
    UnsupportedMediaType: {"Accept": ACCEPT, "Accept-Encoding": ACCEPT_ENCODING},
    IdempotencyConflict: {
        "Retry-After": retry_after(required=False, condition="Only while the first request is being processed.")
    },
    TooManyRequests: {"Retry-After": retry_after(required=True)},
    DatabaseBusy: {"Retry-After": retry_after(required=False)},
    OutcomeUnknown: {"Retry-After": retry_after(required=False, condition="Missing if the outcome is unknown.")},
}


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Declare the statuses of the error responses of an operation. `document.complete` describes them."""
    return {status: ResponseSpec(ErrorResponse, generate_examples=False) for status in statuses}


def describe_errors(operation: Operation, fields: Sequence[str], *, state_changing: bool) -> None:
    """Describe the error responses of an operation, and remove those that it cannot return.

    Litestar adds 400 for a validation error, which is 422 here. `fields` are the parameters and the fields of the body.
    """
    responses: dict[str, Any] = operation.responses or {}
    responses.pop("400", None)
    possible = _possible_errors(operation, state_changing=state_changing)
    if CrossSiteRequest in possible and "403" not in responses:
        responses["403"] = deepcopy(responses["422"])
    for status in [status for status in responses if status >= "400"]:
        classes = [error for error in possible if error.status == int(status)]
        if classes:
            _describe(responses[status], {error: _detail(error, operation, fields) for error in classes})
        else:
            del responses[status]


def _possible_errors(operation: Operation, *, state_changing: bool) -> list[type[ApiError]]:
    responses = operation.responses or {}
    uses_database = "500" in responses
    conditions = {
        Unauthorized: operation.security == SERVICE_KEY,
        InvalidToken: operation.security == TENANT_TOKEN,
        Forbidden: operation.security == TENANT_TOKEN and "403" in responses,
        CrossSiteRequest: state_changing,
        Conflict: "404" in responses,
        IdempotencyConflict: state_changing,
        DatabaseBusy: uses_database,
        ServiceOverloaded: uses_database,
        OutcomeUnknown: uses_database and state_changing,
        Unhealthy: not uses_database,
    }
    return [error for error in DOCUMENTED if conditions.get(error, True)]


def _describe(response: OpenAPIResponse, details: Mapping[type[ApiError], str | None]) -> None:
    examples = {error: verbatim(ErrorResponse(error.error, detail)) for error, detail in details.items()}
    media_type = (response.content or {})[JSON]
    if len(examples) == 1:
        ((error, media_type.example),) = examples.items()
        response.description = getdoc(error) or ""
    else:
        response.description = "\n".join(f"- {getdoc(error)}" for error in examples)
        media_type.examples = {_name(error): Example(value=example) for error, example in examples.items()}
    headers = {name: header for error in examples for name, header in HEADERS.get(error, {}).items()}
    if headers:
        response.headers = {**(response.headers or {}), **headers}


def _name(error: type[ApiError]) -> str:
    """Return the name of the example of an error: `IdempotencyConflict` is `idempotency-conflict`."""
    return CAPITAL.sub("-", error.__name__).lower()


def _detail(error: type[ApiError], operation: Operation, fields: Sequence[str]) -> str | None:
    """Return the detail of an error, about a field or a key that the operation has."""
    detail = error.example_detail
    if error is TooManyRequests and detail is not None and operation.security == SERVICE_KEY:
        return detail.replace("tenant", "service key")
    if error is ValidationFailed and "severity" not in fields:
        ids = [field for field in fields if field in {"alert_id", "tenant_id"}]
        return f"{ids[0]}: must be a UUID" if ids else f"{fields[0]}: must not be empty"
    return detail
