"""Headers, parameters, security schemes and media types that operations refer to."""

from typing import Any, get_args

from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    Parameter,
    Schema,
    SecurityRequirement,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from alerts_service.web.guards import SERVICE_KEY_HEADER
from alerts_service.web.idempotency import KEY_PATTERN

SERVICE_KEY: list[SecurityRequirement] = [{"serviceKey": []}]
TENANT_TOKEN: list[SecurityRequirement] = [{"bearerAuth": []}]
SERVICE_KEY_SCHEME = SecurityScheme(
    type="apiKey",
    name=SERVICE_KEY_HEADER,
    security_scheme_in="header",
    description="The service key, which internal services share: one of the keys in `INTERNAL_SERVICE_KEY`.",
)
TENANT_TOKEN_SCHEME = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="A JSON Web Token with a `tenant_id`, an `exp` in the future, and no `aud` claim.",
)

ETAG = ResponseHeader(
    name="ETag",
    documentation_only=True,
    description="The entity tag of the alert, which every change of the alert changes. Send the tag in `If-Match` or "
    "`If-None-Match`.",
    value="",
)
NEXT_PAGE = ResponseHeader(
    name="Link",
    documentation_only=True,
    description='The next page: `<…>; rel="next"`, with a URL relative to this service. Missing on the last page.',
    value="",
)
WWW_AUTHENTICATE = OpenAPIHeader(description="Always `Bearer`.", schema=Schema(type=OpenAPIType.STRING))
ACCEPT = OpenAPIHeader(
    description="The media types that the operation accepts, separated by commas.",
    schema=Schema(type=OpenAPIType.STRING),
)
ACCEPT_ENCODING = OpenAPIHeader(description="Always `identity`.", schema=Schema(type=OpenAPIType.STRING))
IDEMPOTENT_REPLAYED = OpenAPIHeader(
    description="`true` if the response is the stored response to the first request with this `Idempotency-Key`.",
    schema=Schema(type=OpenAPIType.STRING, const="true"),
)
NOT_MODIFIED = ResponseSpec(None, description="The `ETag` of the alert is one of the entity tags in `If-None-Match`.")


def retry_after(*, required: bool, condition: str = "") -> OpenAPIHeader:
    """Describe a `Retry-After` header. `condition` is a sentence about the responses that have the header."""
    description = f"The number of seconds to wait before sending the request again. {condition}".strip()
    return OpenAPIHeader(description=description, schema=Schema(type=OpenAPIType.INTEGER), required=required)


IF_MATCH = Parameter(
    name="If-Match",
    param_in="header",
    required=False,
    description="Entity tags, separated by commas. If the `ETag` of the alert is not one of them, the response is 412 "
    "and the alert is not changed. `*` matches any entity tag.",
    schema=Schema(type=OpenAPIType.STRING),
    examples={"etag": Example(value='"2026-01-05T09:30:00+00:00"')},
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    param_in="header",
    required=False,
    description="Entity tags, separated by commas. If the `ETag` of the alert is one of them, the response is 304 "
    "without a body. `*` matches any entity tag.",
    schema=Schema(type=OpenAPIType.STRING),
    examples={"etag": Example(value='"2026-01-05T09:30:00+00:00"')},
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    required=False,
    description="Requests with the same key are executed once within 24 hours. A repeated request returns the stored "
    "response. The key has 1 to 255 visible ASCII characters, with or without quotes around them.",
    schema=Schema(type=OpenAPIType.STRING, pattern=f"^({KEY_PATTERN})$"),
)

NDJSON = "application/x-ndjson"
# The schema accepts any text, because each line is validated separately.
NDJSON_ALERTS = OpenAPIMediaType(
    schema=Schema(
        type=OpenAPIType.STRING,
        format=OpenAPIFormat.BINARY,
        description="One alert per line, as in the body of `POST /alerts`. A line has at most 64 KiB. The number of "
        "lines is not limited.",
        examples=[
            '{"tenant_id":"123e4567-e89b-12d3-a456-426614174000","rule_name":"missed_call","message":"Call back"}\n'
        ],
    )
)
NDJSON_RESULTS = OpenAPIMediaType(
    schema=Schema(
        type=OpenAPIType.STRING,
        description="One result per line, in the order of the alerts. A result has the same fields as in a JSON "
        "response, but `id` in place of `alert`.",
        examples=['{"status":201,"id":"0f8fad5b-d9cb-469f-a165-70867728950e"}\n'],
    )
)


def comma_separated(literal: Any) -> dict[str, str]:
    """Return the schema of a parameter with one or more values of a Literal type, separated by commas."""
    value = f"({'|'.join(get_args(literal))})"
    return {"pattern": f"^{value}(,{value})*$"}
