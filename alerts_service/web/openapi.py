"""The OpenAPI document.

Litestar draws the document from the routes. What it cannot know is corrected here: it says 400 where we say 422,
every body required where a note may be left out, and nothing about unknown fields.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any, get_args

import msgspec
from litestar import Litestar, Request, get
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    OpenAPIHeader,
    OpenAPIMediaType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityRequirement,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from msgspec import Struct

from alerts_service.errors import ErrorResponse
from alerts_service.web import swagger_ui
from alerts_service.web.guards import SERVICE_KEY_HEADER
from alerts_service.web.idempotency import KEY_PATTERN, REPLAYED
from alerts_service.web.responses import JSONResponse, encode

ERRORS = {
    401: "The internal service key is missing or wrong",
    403: "The tenant is another than the token's",
    404: "There is no such alert, or it is another tenant's",
    409: "The workflow does not allow this move",
    412: "The alert has changed: it has none of the tags in `If-Match`",
    413: "The body is larger than 1 MiB",
    415: "The body is declared to be something else than JSON, or compressed",
    422: "The request breaks the contract: the detail names the field and the reason",
    429: "This tenant has called too often, where there is such a limit",
    500: "Database connection error, or an unforeseen one",
    503: "The database does not answer, or had no time for this request, or the send buffer is full",
}
EXAMPLES = {
    "401": ErrorResponse("Unauthorized", f"the header {SERVICE_KEY_HEADER} must hold the internal service key"),
    "403": ErrorResponse("Forbidden", "tenant_id: must be the token's own tenant"),
    "404": ErrorResponse("Alert not found", None),
    "409": ErrorResponse(
        "Conflict", "the alert is resolved since 2026-01-05T09:30:00+00:00, and its note stays as it is"
    ),
    "412": ErrorResponse("Precondition failed", 'the alert has none of these tags, but "2026-01-05T09:30:00+00:00"'),
    "413": ErrorResponse("Body too large", "a body may have 1 MiB"),
    "415": ErrorResponse("Unsupported media type", "Content-Type: must be application/json"),
    "422": ErrorResponse("Validation error", "tenant_id: Invalid UUID"),
    "429": ErrorResponse("Too many requests", "the limit of a tenant is 100/minute"),
    "500": ErrorResponse("Database connection error", None),
    "503": ErrorResponse("Service unavailable", "the database does not answer"),
}
SERVICE_KEY: list[SecurityRequirement] = [{"serviceKey": []}]
TENANT_TOKEN: list[SecurityRequirement] = [{"bearerAuth": []}]
NO_TOKEN = ErrorResponse("Unauthorized", "the header authorization must hold Bearer and a tenant's token")
NO_TIME = ErrorResponse("Service unavailable", "timed out waiting for the database")
STILL_RUNNING = ErrorResponse(
    "Request in progress", "Idempotency-Key: the first request with this key is still running"
)
CROSS_SITE = "A page of another site sent this request, and its origin is not one of `AS_ALERTS_CORS_ORIGINS`"
CROSS_SITE_EXAMPLE = ErrorResponse(
    "Forbidden",
    'Sec-Fetch-Site: "cross-site" is not one of same-origin, none, and Origin is not one of AS_ALERTS_CORS_ORIGINS',
)
KEY_LIMIT = ErrorResponse("Too many requests", "the limit of a service key is 1000/minute")
NEXT_PAGE = ResponseHeader(
    name="Link", documentation_only=True, description='`<…>; rel="next"`: the next page, while there is one', value=""
)
ETAG = ResponseHeader(
    name="ETag", documentation_only=True, description="Tells this state of the alert from any other.", value=""
)
UNCHANGED = ResponseSpec(None, description="The alert still has one of the tags in `If-None-Match`")

LINES = "application/x-ndjson"
# Lines may be anything: each is judged by itself.
ALERTS_IN_LINES = OpenAPIMediaType(
    schema=Schema(
        description="An alert a line, each at most 64 KiB, as many as there are.",
        examples=['{"tenant_id":"123e4567-e89b-12d3-a456-426614174000","rule_name":"missed_call","message":"…"}\n'],
    )
)
RESULTS_IN_LINES = OpenAPIMediaType(
    schema=Schema(
        type=OpenAPIType.STRING,
        description="A result a line, as of one in a list, but with the `id` of an alert that was recorded.",
        examples=['{"status":201,"id":"0f8fad5b-d9cb-469f-a165-70867728950e"}\n'],
    )
)

ABOUT = """Keeps the alerts of NeverMissCall. Every alert belongs to a tenant.

Every answer that is no success is `{"error": …, "detail": …}`. A list holds 50 alerts; a `Link` header leads on.
The `internal` routes want the service key; """
OPEN = "the others ask nobody who they are, so keep them inside your network."
GUARDED = (
    "those of alerts and statistics want a tenant's token, and see that tenant only: what they name of another is "
    "answered as if it did not exist, and to record an alert for another is 403."
)
BEARER = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="A tenant's token: it holds the `tenant_id`, and an `exp` that is not past.",
)
WWW_AUTHENTICATE = OpenAPIHeader(description="`Bearer`", schema=Schema(type=OpenAPIType.STRING))
SECONDS = "Seconds after which to try again."
RETRY_AFTER = OpenAPIHeader(description=SECONDS, schema=Schema(type=OpenAPIType.INTEGER), required=True)
PERHAPS_RETRY_AFTER = OpenAPIHeader(
    description=f"{SECONDS} Missing where a change may have been made all the same.",
    schema=Schema(type=OpenAPIType.INTEGER),
)
RETRY_AFTER_KEY = OpenAPIHeader(
    description=f"{SECONDS} Only while the first request is still running.", schema=Schema(type=OpenAPIType.INTEGER)
)
IF_MATCH = Parameter(
    name="If-Match",
    param_in="header",
    required=False,
    description="Change the alert only if it still has one of these tags.",
    schema=Schema(type=OpenAPIType.STRING),
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    param_in="header",
    required=False,
    description="Answer 304 if the alert still has one of these tags.",
    schema=Schema(type=OpenAPIType.STRING),
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    required=False,
    description="Makes this request safe to repeat for 24 hours: it is executed once, and repeating it "
    "replays the stored response. A stored bulk response over 256 KiB has `id` in place of `alert`. The key of a dry "
    "run is validated, but nothing is stored.",
    schema=Schema(type=OpenAPIType.STRING, pattern=f"^({KEY_PATTERN})$"),
)
IDEMPOTENT_REPLAYED = OpenAPIHeader(
    description="`true`: the first answer to this `Idempotency-Key`, once more",
    schema=Schema(type=OpenAPIType.STRING, const="true"),
)
RUNS = "The first request with this `Idempotency-Key` is still running"


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Document the errors that a route answers with, each an ErrorResponse."""
    return {s: ResponseSpec(ErrorResponse, description=ERRORS[s], generate_examples=False) for s in statuses}


def several(choices: Any) -> dict[str, str]:
    """Describe a parameter that takes one of a Literal's texts, or several of them with commas between them."""
    one = f"({'|'.join(get_args(choices))})"
    return {"pattern": f"^{one}(,{one})*$"}


def config(*, tokens: bool) -> OpenAPIConfig:
    """Describe the API, and show it in Swagger UI at `/docs` from files that come with a package.

    Tenants' `tokens` are shown where they are asked for.
    """
    return OpenAPIConfig(
        title="as-alerts-service",
        version=version("as-alerts-service"),
        description=ABOUT + (GUARDED if tokens else OPEN),
        components=Components(
            security_schemes={
                "serviceKey": SecurityScheme(
                    type="apiKey",
                    name=SERVICE_KEY_HEADER,
                    security_scheme_in="header",
                    description="The key that our own services share, from `INTERNAL_SERVICE_KEY`.",
                ),
                **({"bearerAuth": BEARER} if tokens else {}),
            }
        ),
        operation_id_creator=lambda handler, *_: handler.handler_name,
        use_handler_docstrings=True,
        openapi_router=swagger_ui.pages(),
        render_plugins=[swagger_ui.PLUGIN],
    )


def correct(app: Litestar, *examples: Struct) -> None:
    """Make the document of an application say what the service does.

    Every Struct is described by msgspec, which knows its limits and that unknown fields are refused, and shown by
    what the `examples` have of its kind.
    """
    document = app.openapi_schema
    structs: dict[type[Struct], None] = {ErrorResponse: None}
    for handler, operation in _operations(app):
        data = handler.parsed_fn_signature.parameters.get("data")
        for field in filter(None, (handler.parsed_fn_signature.return_type, data)):
            structs.update(dict.fromkeys(_structs(field)))
        responses: dict[str, Any] = operation.responses or {}
        _keep_what_is_answered(responses, operation.security)
        _add_headers(responses)
        if data and isinstance(operation.request_body, RequestBody):
            operation.request_body.required = not data.has_default or "takes_lines" in handler.opt
            _take_lines(handler, operation.request_body, responses)
        operation.parameters = [*(operation.parameters or ()), *handler.opt.get("headers", ())]
        if handler.http_methods & {"POST", "PUT"}:
            _take_a_key(operation, responses)
            _reject_other_sites(responses)
        for parameter in operation.parameters or ():
            if isinstance(parameter, Parameter):
                parameter.schema = _without_null(parameter.schema)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for struct in structs:
        _say_more(schemas[struct.__name__], struct)
    for example in examples:
        schemas[type(example).__name__]["examples"] = [_verbatim(example)]
    document.components.schemas = schemas
    document.paths = dict(sorted((document.paths or {}).items()))


def _take_lines(handler: HTTPRouteHandler, body: RequestBody, responses: dict[str, Any]) -> None:
    if "takes_lines" in handler.opt:
        body.content[LINES] = ALERTS_IN_LINES
        responses["200"].content[LINES] = RESULTS_IN_LINES


def _say_more(schema: dict[str, Any], struct: type[Struct]) -> None:
    """Add what a Struct says of itself and of its fields where msgspec cannot know it."""
    schema.update(getattr(struct, "said", {}))
    for field, said in getattr(struct, "said_of", {}).items():
        schema["properties"][field].update(said)


def _keep_what_is_answered(responses: dict[str, Any], security: list[SecurityRequirement] | None) -> None:
    """Show an example of each error; who asks for neither key nor token refuses nobody."""
    for status in ("400",) if security else ("400", "401", "403"):
        responses.pop(status, None)
    for status in responses.keys() & EXAMPLES.keys():
        responses[status].content["application/json"].example = _verbatim(EXAMPLES[status])
    if security == TENANT_TOKEN:
        _ask_for_token(responses["401"])
    if security == SERVICE_KEY:
        _count_the_key(responses["429"])


def _add_headers(responses: dict[str, Any]) -> None:
    if "503" in responses and "500" in responses:
        responses["503"].headers = {"Retry-After": PERHAPS_RETRY_AFTER}
        responses["503"].content["application/json"].example = _verbatim(NO_TIME)
    if "429" in responses:
        responses["429"].headers = {"Retry-After": RETRY_AFTER}
    if "200" in responses and "201" in responses:
        responses["200"].headers = responses["201"].headers


def _ask_for_token(unauthorized: Any) -> None:
    unauthorized.description = (
        "The token is missing, not signed with the right key, has expired, names no tenant, or has an `aud` claim"
    )
    unauthorized.headers = {"WWW-Authenticate": WWW_AUTHENTICATE}
    unauthorized.content["application/json"].example = _verbatim(NO_TOKEN)


def _count_the_key(too_many: Any) -> None:
    too_many.description = "This service key has called too often, where there is such a limit"
    too_many.content["application/json"].example = _verbatim(KEY_LIMIT)


def _reject_other_sites(responses: dict[str, Any]) -> None:
    """Document the error that `CrossSiteProtection` answers with, beside a 403 for another tenant."""
    if "403" in responses:
        responses["403"].description = f"{ERRORS[403]}, or: {CROSS_SITE[0].lower()}{CROSS_SITE[1:]}"
    else:
        responses["403"] = deepcopy(responses["415"])
        responses["403"].description = CROSS_SITE
        responses["403"].content["application/json"].example = _verbatim(CROSS_SITE_EXAMPLE)


def _take_a_key(operation: Operation, responses: dict[str, Any]) -> None:
    """Document what a repeated request is answered; where there is no workflow that alone is a conflict."""
    operation.parameters = [*(operation.parameters or ()), IDEMPOTENCY_KEY]
    for status in responses.keys() & {"200", "201", "404", "409", "412"}:
        responses[status].headers = {**(responses[status].headers or {}), REPLAYED: IDEMPOTENT_REPLAYED}
    conflict = responses["409"]
    conflict.headers["Retry-After"] = RETRY_AFTER_KEY
    if "404" in responses:
        conflict.description = f"{ERRORS[409]}, or: {RUNS[0].lower()}{RUNS[1:]}"
    else:
        conflict.description = RUNS
        conflict.content["application/json"].example = _verbatim(STILL_RUNNING)


def _operations(app: Litestar) -> Iterator[tuple[HTTPRouteHandler, Operation]]:
    for route in app.routes:
        path = (app.openapi_schema.paths or {}).get(route.path_format)
        if path is not None and isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    if operation := getattr(path, method.lower()):
                        yield handler, operation


def _structs(field: FieldDefinition) -> Iterator[type[Struct]]:
    if field.is_subclass_of(Struct):
        yield field.annotation
    for inner in field.inner_types:
        yield from _structs(inner)


def _verbatim(example: Struct) -> msgspec.Raw:
    """Keep an example as it is: Litestar drops every null from the document."""
    return msgspec.Raw(msgspec.json.encode(example))


def _without_null(schema: Any) -> Any:
    """Describe an optional parameter as what it is when it is there: an address cannot carry null."""
    if schema.one_of:
        (given,) = (option for option in schema.one_of if option.type != OpenAPIType.NULL)
        said = {name: value for name, value in vars(schema).items() if value is not None and name != "one_of"}
        return replace(given, **said)
    if isinstance(schema.type, list):
        (type_,) = (type_ for type_ in schema.type if type_ != OpenAPIType.NULL)
        return replace(schema, type=type_, enum=[value for value in schema.enum if value is not None])
    return schema


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, response_class=JSONResponse)
def openapi_json(request: Request[Any, Any, Any]) -> msgspec.Raw:
    """The document itself."""
    return _document(request.app)


@lru_cache(maxsize=1)
def _document(app: Litestar) -> msgspec.Raw:
    """Encode the document once: to put it together takes 7 ms."""
    return msgspec.Raw(encode(app.openapi_schema.to_schema()))
