"""The error responses of an operation: descriptions, examples and headers, from the exceptions in `errors`."""

import re
from collections.abc import Sequence
from copy import deepcopy
from inspect import getdoc
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIHeader, OpenAPIResponse, Operation, RequestBody

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
    RequestTimeout,
    ServiceOverloaded,
    ShuttingDown,
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
    NDJSON,
    SERVICE_KEY,
    TENANT_TOKEN,
    WWW_AUTHENTICATE,
    retry_after,
)
from alerts_service.web.openapi.examples import verbatim

JSON = "application/json"
CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")

# The errors that are documented for operations. The guide documents the errors of requests that are not routed to an
# operation, and the 400 for a body that is not valid HTTP.
DOCUMENTED: tuple[type[ApiError], ...] = (
    Unauthorized,
    InvalidToken,
    Forbidden,
    CrossSiteRequest,
    AlertNotFound,
    Conflict,
    IdempotencyConflict,
    PreconditionFailed,
    RequestTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    TooManyRequests,
    DatabaseUnreachable,
    UnexpectedError,
    DatabaseBusy,
    ServiceOverloaded,
    ShuttingDown,
    OutcomeUnknown,
    Unhealthy,
)
HEADERS: dict[type[ApiError], dict[str, OpenAPIHeader]] = {
    InvalidToken: {"WWW-Authenticate": WWW_AUTHENTICATE},
    UnsupportedMediaType: {"Accept": ACCEPT, "Accept-Encoding": ACCEPT_ENCODING},
    IdempotencyConflict: {
        "Retry-After": retry_after(required=False, condition="Only if the first request is still being processed.")
    },
    TooManyRequests: {"Retry-After": retry_after(required=True)},
    DatabaseBusy: {"Retry-After": retry_after(required=True)},
    OutcomeUnknown: {
        "Retry-After": retry_after(
            required=False, condition="Missing if the outcome is unknown, or if the service is shutting down."
        )
    },
}


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Declare the statuses of the error responses of an operation. `complete_document` describes the responses."""
    return {status: ResponseSpec(ErrorResponse, generate_examples=False) for status in statuses}


def describe_errors(operation: Operation, input_names: Sequence[str], *, state_changing: bool) -> None:
    """Describe the error responses of an operation, and remove the responses that the operation cannot return.

    Litestar adds 400 for a validation error. The service returns 422. `input_names` are the names of the parameters and
    of the fields of the body.
    """
    responses: dict[str, Any] = operation.responses or {}
    responses.pop("400", None)
    possible = _possible_errors(operation, state_changing=state_changing)
    for error in (CrossSiteRequest, RequestTimeout):
        if error in possible and str(error.status.value) not in responses:
            responses[str(error.status.value)] = deepcopy(responses["422"])
    for status in [status for status in responses if status >= "400"]:
        classes = [error for error in possible if error.status == int(status)]
        if classes:
            _describe(responses[status], operation, classes, input_names)
        else:
            del responses[status]
    operation.responses = dict(sorted(responses.items()))


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
        RequestTimeout: operation.request_body is not None,
        DatabaseBusy: uses_database,
        ServiceOverloaded: uses_database,
        ShuttingDown: uses_database and not state_changing,
        OutcomeUnknown: uses_database and state_changing,
        Unhealthy: not uses_database,
    }
    return [error for error in DOCUMENTED if conditions.get(error, True)]


def _describe(
    response: OpenAPIResponse, operation: Operation, classes: Sequence[type[ApiError]], input_names: Sequence[str]
) -> None:
    examples = {
        error: verbatim(ErrorResponse(error.error, _detail(error, operation, input_names))) for error in classes
    }
    media_type = (response.content or {})[JSON]
    if len(examples) == 1:
        ((error, media_type.example),) = examples.items()
        response.description = _description(error, operation)
    else:
        response.description = "\n".join(f"- {_description(error, operation)}" for error in examples)
        media_type.examples = {_name(error): Example(value=example) for error, example in examples.items()}
    headers = {name: header for error in examples for name, header in HEADERS.get(error, {}).items()}
    if headers:
        response.headers = {**(response.headers or {}), **headers}


def _name(error: type[ApiError]) -> str:
    """Return the name of the example of an error, such as `idempotency-conflict` for IdempotencyConflict."""
    return CAPITAL.sub("-", error.__name__).lower()


def _description(error: type[ApiError], operation: Operation) -> str:
    if error is TooManyRequests:
        return f"The rate limit of the {_rate_limited_client(operation)} is exceeded."
    return getdoc(error) or ""


def _detail(error: type[ApiError], operation: Operation, input_names: Sequence[str]) -> str | None:
    """Return the detail of an example: about an input, a rate limit and media types that the operation has."""
    detail = error.example_detail or ""
    if error is TooManyRequests:
        return detail.replace("tenant", _rate_limited_client(operation))
    body = operation.request_body
    if error is UnsupportedMediaType and isinstance(body, RequestBody) and NDJSON in body.content:
        return f"{detail} or {NDJSON}"
    if error is ValidationFailed and "severity" not in input_names:
        ids = [name for name in input_names if name in {"alert_id", "tenant_id"}]
        return f"{ids[0]}: must be a UUID" if ids else f"{input_names[0]}: must not be empty"
    return error.example_detail


def _rate_limited_client(operation: Operation) -> str:
    return "service key" if operation.security == SERVICE_KEY else "tenant"
