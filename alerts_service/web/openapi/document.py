"""The OpenAPI document that Litestar generates from the routes, completed.

Litestar does not know that a validation error is 422, that the body of a transition may be left out, that unknown
fields are rejected, or which headers the service reads and sends.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import litestar
import msgspec
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import (
    Components,
    Example,
    License,
    OpenAPIMediaType,
    Operation,
    Parameter,
    RequestBody,
    Server,
    Tag,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from msgspec import UNSET, Struct

from alerts_service.errors import ErrorResponse
from alerts_service.web import swagger_ui
from alerts_service.web.idempotency import REPLAYED
from alerts_service.web.openapi import guide
from alerts_service.web.openapi.components import (
    IDEMPOTENCY_KEY,
    IDEMPOTENT_REPLAYED,
    NDJSON,
    NDJSON_ALERTS,
    NDJSON_RESULTS,
    SERVICE_KEY_SCHEME,
    TENANT_TOKEN_SCHEME,
)
from alerts_service.web.openapi.error_responses import JSON, describe_errors
from alerts_service.web.openapi.examples import REF_TEMPLATE, Schemas, example_of, verbatim
from alerts_service.web.responses import JSONResponse, encode

# Lines of Markdown that begin a block: headings, items of lists, rows of tables, and fences.
BLOCK = re.compile(r"#|[-*] |\d{1,2}\. |\||```")
UNJOINABLE = re.compile(r"#|\||```")
CODE_INDENT = "    "


def config(*, tokens: bool) -> OpenAPIConfig:
    """Describe the API. With `tokens`, its tenant routes require the token of a tenant."""
    return OpenAPIConfig(
        title="as-alerts-service",
        summary="Alerts of NeverMissCall: create, list, acknowledge and resolve them.",
        version=version("as-alerts-service"),
        description=_join_lines(guide.text(tokens=tokens)),
        license=License(name="MIT", identifier="MIT"),
        servers=[Server(url="/", description="The service that serves this document")],
        tags=[Tag(name=name, description=_join_lines(text)) for name, text in guide.TAGS.items()],
        components=Components(
            security_schemes={
                "serviceKey": SERVICE_KEY_SCHEME,
                **({"bearerAuth": TENANT_TOKEN_SCHEME} if tokens else {}),
            }
        ),
        operation_id_creator=lambda handler, *_: handler.handler_name,
        use_handler_docstrings=True,
        openapi_router=swagger_ui.pages(),
        render_plugins=[swagger_ui.PLUGIN],
    )


def complete(app: Litestar, *examples: Struct) -> None:
    """Complete the document of an application.

    msgspec describes every Struct: it knows its limits, and that unknown fields are rejected. `examples` are examples
    of their classes.
    """
    document = app.openapi_schema
    schemas = _schemas(app, examples)
    for handler, operation in _operations(app):
        state_changing = bool(handler.http_methods & {"POST", "PUT"})
        operation.description = _join_lines(operation.description or "")
        describe_errors(operation, _struct_fields(handler, operation), state_changing=state_changing)
        _complete_bodies(handler, operation, schemas)
        operation.parameters = [*(operation.parameters or ()), *handler.opt.get("headers", ())]
        if state_changing:
            _add_idempotency_key(operation)
        for parameter in operation.parameters:
            if isinstance(parameter, Parameter):
                parameter.schema = _without_null(parameter.schema)
    document.components.schemas = schemas
    document.paths = dict(sorted((document.paths or {}).items()))


def _schemas(app: Litestar, examples: tuple[Struct, ...]) -> Any:
    structs: dict[type[Struct], None] = {ErrorResponse: None}
    for handler, _ in _operations(app):
        for field in filter(None, (_response_type(handler), _body_type(handler))):
            structs.update(dict.fromkeys(_structs(field)))
    _, schemas = msgspec.json.schema_components(structs, ref_template=REF_TEMPLATE)
    for struct in structs:
        _add_schema_extra(schemas[struct.__name__], struct)
    for example in examples:
        schemas[type(example).__name__]["examples"] = [verbatim(example)]
    for schema in schemas.values():
        schema["description"] = _join_lines(schema.get("description", ""))
    return schemas


def _add_schema_extra(schema: dict[str, Any], struct: type[Struct]) -> None:
    """Add what msgspec cannot know of a Struct and of its fields."""
    schema.update(getattr(struct, "schema_extra", {}))
    for field, extra in getattr(struct, "field_schema_extra", {}).items():
        schema["properties"][field].update(extra)


def _complete_bodies(handler: HTTPRouteHandler, operation: Operation, schemas: Schemas) -> None:
    responses: dict[str, Any] = operation.responses or {}
    body, body_type = operation.request_body, _body_type(handler)
    if body_type is not None and isinstance(body, RequestBody):
        accepts_ndjson = "accepts_ndjson" in handler.opt
        body.required = accepts_ndjson or not handler.parsed_fn_signature.parameters["data"].has_default
        _add_examples(body.content[JSON], body_type.annotation, schemas)
        if accepts_ndjson:
            body.content[NDJSON] = NDJSON_ALERTS
            responses["200"].content[NDJSON] = NDJSON_RESULTS
    if (example := handler.opt.get("example")) is not None:
        responses[str(handler.status_code)].content[JSON].example = verbatim(example)
    for status in responses.keys() & {"200", "201"}:
        _add_examples(responses[status].content[JSON], _response_type(handler).annotation, schemas)
    if "200" in responses and "201" in responses:
        responses["200"].headers = responses["201"].headers


def _add_examples(media_type: OpenAPIMediaType, type_: Any, schemas: Schemas) -> None:
    """Add examples of a type, unless there are some. Several examples are named by their fields."""
    if media_type.example is not None or media_type.examples:
        return
    examples = schemas.get(type_.__name__, {}).get("examples", ())
    if len(examples) > 1:
        media_type.examples = {", ".join(example): Example(value=verbatim(example)) for example in examples}
    elif (example := example_of(type_, schemas)) is not UNSET:
        media_type.example = verbatim(example)


def _add_idempotency_key(operation: Operation) -> None:
    operation.parameters = [*(operation.parameters or ()), IDEMPOTENCY_KEY]
    responses: dict[str, Any] = operation.responses or {}
    errors = {"404", "409", "412"} if "404" in responses else set()
    for status in responses.keys() & {"200", "201", *errors}:
        responses[status].headers = {**(responses[status].headers or {}), REPLAYED: IDEMPOTENT_REPLAYED}


def _operations(app: Litestar) -> Iterator[tuple[HTTPRouteHandler, Operation]]:
    for route in app.routes:
        path = (app.openapi_schema.paths or {}).get(route.path_format)
        if path is not None and isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    if operation := getattr(path, method.lower()):
                        yield handler, operation


def _body_type(handler: HTTPRouteHandler) -> FieldDefinition | None:
    return handler.parsed_fn_signature.parameters.get("data")


def _response_type(handler: HTTPRouteHandler) -> FieldDefinition:
    """Return what a handler returns, without the `Response` around it."""
    type_ = handler.parsed_fn_signature.return_type
    return type_.inner_types[0] if type_.is_subclass_of(litestar.Response) else type_


def _struct_fields(handler: HTTPRouteHandler, operation: Operation) -> list[str]:
    """Name the parameters of an operation and the fields of its body."""
    names = [parameter.name for parameter in operation.parameters or () if isinstance(parameter, Parameter)]
    body = _body_type(handler)
    return names if body is None else [*names, *body.annotation.__struct_fields__]


def _structs(field: FieldDefinition) -> Iterator[type[Struct]]:
    if field.is_subclass_of(Struct):
        yield field.annotation
    for inner in field.inner_types:
        yield from _structs(inner)


def _without_null(schema: Any) -> Any:
    """Describe an optional parameter by the type that it has if it is present: a query cannot hold null."""
    if schema.one_of:
        (type_,) = (option for option in schema.one_of if option.type != OpenAPIType.NULL)
        overrides = {name: value for name, value in vars(schema).items() if value is not None and name != "one_of"}
        return replace(type_, **overrides)
    if isinstance(schema.type, list):
        (type_,) = (type_ for type_ in schema.type if type_ != OpenAPIType.NULL)
        return replace(schema, type=type_, enum=[value for value in schema.enum if value is not None])
    return schema


def _join_lines(markdown: str) -> str:
    """Join the lines of each paragraph, as Swagger UI shows a line break in a paragraph as one."""
    lines: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        before = lines[-1] if lines else ""
        indented_code = line.startswith(CODE_INDENT) and (not before or before.startswith(CODE_INDENT))
        if fenced or indented_code or not line or not before or BLOCK.match(line.lstrip()) or UNJOINABLE.match(before):
            lines.append(line)
        else:
            lines[-1] += " " + line.lstrip()
        if line.startswith("```"):
            fenced = not fenced
    return "\n".join(lines)


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, response_class=JSONResponse)
def openapi_json(request: litestar.Request[Any, Any, Any]) -> msgspec.Raw:
    """Return the document."""
    return _encoded_document(request.app)


@lru_cache(maxsize=1)
def _encoded_document(app: Litestar) -> msgspec.Raw:
    """Encode the document once: it takes 7 ms."""
    return msgspec.Raw(encode(app.openapi_schema.to_schema()))
