"""Completion of the OpenAPI document that Litestar generates from the routes.

The generated document lacks the status 422 of validation errors, optional bodies and the rejection of unknown fields.
It also lacks the headers that the service reads and sends.
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
from alerts_service.web.openapi.tags import TAGS
from alerts_service.web.responses import JSONResponse, encode

# Lines of Markdown that begin a block: headings, items of lists, rows of tables, and fences.
BLOCK_START = re.compile(r"#|[-*] |\d{1,2}\. |\||```")
ONE_LINE_BLOCK = re.compile(r"#|\||```")  # the next line never belongs to such a block
CODE_INDENT = "    "


def config(*, tokens: bool) -> OpenAPIConfig:
    """Describe the API. `tokens` is whether the tenant routes require a tenant token."""
    return OpenAPIConfig(
        title="as-alerts-service",
        summary="Alerts of NeverMissCall: create, list, acknowledge and resolve them.",
        version=version("as-alerts-service"),
        description=_join_lines(guide.text(tokens=tokens)),
        license=License(name="MIT", identifier="MIT"),
        servers=[Server(url="/", description="The service that serves this document")],
        tags=[Tag(name=name, description=_join_lines(text)) for name, text in TAGS.items()],
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


def complete_document(app: Litestar, *examples: Struct) -> None:
    """Complete the document of an application.

    The schemas come from msgspec, which includes the limits of fields and the rejection of unknown fields. Each of
    `examples` becomes the example of its class.
    """
    document = app.openapi_schema
    schemas = _schemas(app, examples)
    for handler, operation in _operations(app):
        state_changing = bool(handler.http_methods & {"POST", "PUT"})
        operation.description = _join_lines(operation.description or "")
        _complete_bodies(handler, operation, schemas)
        describe_errors(operation, _input_names(handler, operation), state_changing=state_changing)
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
    """Add the keywords of a Struct and of its fields that msgspec cannot derive from the types."""
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
        duplicate = responses["200"]
        duplicate.headers = responses["201"].headers
        (example,) = duplicate.content[JSON].examples.values()
        duplicate.content[JSON].examples = {"duplicate": example}


def _add_examples(media_type: OpenAPIMediaType, type_: Any, schemas: Schemas) -> None:
    """Add the examples of a type to a media type without examples, each named after its first field (`by-ids`)."""
    if media_type.example is not None or media_type.examples:
        return
    examples = schemas.get(type_.__name__, {}).get("examples", ())
    if len(examples) > 1:
        media_type.examples = {f"by-{next(iter(example))}": Example(value=verbatim(example)) for example in examples}
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
    """Return the type that a handler returns, without the `Response` around the type."""
    type_ = handler.parsed_fn_signature.return_type
    return type_.inner_types[0] if type_.is_subclass_of(litestar.Response) else type_


def _input_names(handler: HTTPRouteHandler, operation: Operation) -> list[str]:
    """Return the names of the parameters of an operation and of the fields of its body."""
    names = [parameter.name for parameter in operation.parameters or () if isinstance(parameter, Parameter)]
    body = _body_type(handler)
    return names if body is None else [*names, *body.annotation.__struct_fields__]


def _structs(field: FieldDefinition) -> Iterator[type[Struct]]:
    if field.is_subclass_of(Struct):
        yield field.annotation
    for inner in field.inner_types:
        yield from _structs(inner)


def _without_null(schema: Any) -> Any:
    """Remove null from the types of an optional parameter: a query has no null."""
    if schema.one_of:
        (type_,) = (option for option in schema.one_of if option.type != OpenAPIType.NULL)
        overrides = {name: value for name, value in vars(schema).items() if value is not None and name != "one_of"}
        return replace(type_, **overrides)
    if isinstance(schema.type, list):
        (type_,) = (type_ for type_ in schema.type if type_ != OpenAPIType.NULL)
        return replace(schema, type=type_, enum=[value for value in schema.enum if value is not None])
    return schema


def _join_lines(markdown: str) -> str:
    """Join the lines of each paragraph. Swagger UI shows every line break of a paragraph."""
    lines: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        before = lines[-1] if lines else ""
        indented_code = line.startswith(CODE_INDENT) and (not before or before.startswith(CODE_INDENT))
        starts_block = BLOCK_START.match(line.lstrip()) or ONE_LINE_BLOCK.match(before)
        if fenced or indented_code or not line or not before or starts_block:
            lines.append(line)
        else:
            lines[-1] += " " + line.lstrip()
        if line.startswith("```"):
            fenced = not fenced
    return "\n".join(lines)


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, response_class=JSONResponse)
def openapi_json(request: litestar.Request[Any, Any, Any]) -> msgspec.Raw:
    """Return the OpenAPI document."""
    return _encoded_document(request.app)


@lru_cache(maxsize=1)
def _encoded_document(app: Litestar) -> msgspec.Raw:
    """Encode the document once, because encoding takes 7 ms."""
    return msgspec.Raw(encode(app.openapi_schema.to_schema()))
