"""The OpenAPI document.

- `document`: what Litestar generates from the routes, completed
- `guide`: the texts of the document, which explain what holds for all operations
- `components`: headers, parameters, security schemes and media types that operations refer to
- `error_responses`: the error responses of an operation, from the exceptions in `errors`
- `examples`: an example of each body, from the examples of its schema
"""

from alerts_service.web.openapi.components import (
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    NEXT_PAGE,
    SERVICE_KEY,
    TENANT_TOKEN,
    UNCHANGED,
    comma_separated,
)
from alerts_service.web.openapi.document import complete, config, openapi_json
from alerts_service.web.openapi.error_responses import errors

__all__ = [
    "ETAG",
    "IF_MATCH",
    "IF_NONE_MATCH",
    "NEXT_PAGE",
    "SERVICE_KEY",
    "TENANT_TOKEN",
    "UNCHANGED",
    "comma_separated",
    "complete",
    "config",
    "errors",
    "openapi_json",
]
