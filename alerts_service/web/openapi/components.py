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
    description="The key that internal services share: one of the keys in `INTERNAL_SERVICE_KEY`.",
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
    description="The version of the alert: different after every change. Send it in `If-Match` or `If-None-Match`.",
    value="",
)
NEXT_PAGE = ResponseHeader(
    name="Link",
    documentation_only=True,
    description='The next page: `<…>; rel="next"`, with an address relative to this service. Missing on the last page.',
    value="",
)
WWW_AUTHENTICATE = OpenAPIHeader(description="Always `Bearer`.", schema=Schema(type=OpenAPIType.STRING))
ACCEPT = OpenAPIHeader(description="Always `application/json`.", schema=Schema(type=OpenAPIType.STRING))
ACCEPT_ENCODING = OpenAPIHeader(description="Always `identity`.", schema=Schema(type=OpenAPIType.STRING))
IDEMPOTENT_REPLAYED = OpenAPIHeader(
    description="`true` if this is the stored response to the first request with this `Idempotency-Key`.",
    schema=Schema(type=OpenAPIType.STRING, const="true"),
)
UNCHANGED = ResponseSpec(None, description="The `ETag` of the alert is one of the tags in `If-None-Match`.")


def retry_after(*, required: bool, condition: str = "") -> OpenAPIHeader:
    """Describe a `Retry-After` header, with the condition under which the response has one."""
    description = f"Seconds to wait before the request is sent again. {condition}".strip()
    return OpenAPIHeader(description=description, schema=Schema(type=OpenAPIType.INTEGER), required=required)


IF_MATCH = Parameter(
    name="If-Match",
    param_in="header",
    required=False,
    description="Change the alert only if its `ETag` is one of these tags, separated by commas; otherwise 412. `*` "
    "matches any.",
    schema=Schema(type=OpenAPIType.STRING),
    examples={"etag": Example(value='"2026-01-05T09:30:00+00:00"')},
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    param_in="header",
    required=False,
    description="Return 304 without a body if the `ETag` of the alert is one of these tags, separated by commas. `*` "
    "matches any.",
    schema=Schema(type=OpenAPIType.STRING),
    examples={"etag": Example(value='"2026-01-05T09:30:00+00:00"')},
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    required=False,
    description="Makes this request safe to repeat for 24 hours: it is executed once, and repeating it replays the "
    "stored response. 1 to 255 visible ASCII characters, with or without quotes around them.",
    schema=Schema(type=OpenAPIType.STRING, pattern=f"^({KEY_PATTERN})$"),
)

NDJSON = "application/x-ndjson"
# The schema admits any text: each line is validated by itself.
NDJSON_ALERTS = OpenAPIMediaType(
    schema=Schema(
        type=OpenAPIType.STRING,
        format=OpenAPIFormat.BINARY,
        description="One alert per line, as in the body of `POST /alerts`. A line has at most 64 KiB; the number of "
        "lines is not limited.",
        examples=[
            '{"tenant_id":"123e4567-e89b-12d3-a456-426614174000","rule_name":"missed_call","message":"Call back"}\n'
        ],
    )
)
NDJSON_RESULTS = OpenAPIMediaType(
    schema=Schema(
        type=OpenAPIType.STRING,
        description="One result per line, in the order of the alerts: as in a list, but with the `id` of the alert in "
        "place of `alert`.",
        examples=['{"status":201,"id":"0f8fad5b-d9cb-469f-a165-70867728950e"}\n'],
    )
)


def comma_separated(literal: Any) -> dict[str, str]:
    """Return the schema of a parameter that takes one or more values of a Literal, separated by commas."""
    value = f"({'|'.join(get_args(literal))})"
    return {"pattern": f"^{value}(,{value})*$"}
