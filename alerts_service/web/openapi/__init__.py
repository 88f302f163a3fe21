"""The OpenAPI document.

- `document`: completes the document that Litestar generates from the routes
- `guide`: the description of the document: the rules that apply to all operations
- `tags`: the descriptions of the tags
- `components`: headers, parameters, security schemes and media types that operations refer to
- `error_responses`: the error responses of an operation, from the exceptions in `errors`
- `examples`: an example of each body, from the examples of its schema
"""

from alerts_service.web.openapi.components import (
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    NEXT_PAGE,
    NOT_MODIFIED,
    SERVICE_KEY,
    TENANT_TOKEN,
    comma_separated,
)
from alerts_service.web.openapi.document import complete_document, config, openapi_json
from alerts_service.web.openapi.error_responses import errors

__all__ = [
    "ETAG",
    "IF_MATCH",
    "IF_NONE_MATCH",
    "NEXT_PAGE",
    "NOT_MODIFIED",
    "SERVICE_KEY",
    "TENANT_TOKEN",
    "comma_separated",
    "complete_document",
    "config",
    "errors",
    "openapi_json",
]
