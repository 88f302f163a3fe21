"""Entity tags of alerts and conditional requests (RFC 9110, sections 8.8.3 and 13.1)."""

import re

from alerts_service.alerts.structs import Alert
from alerts_service.web.idempotency import IF_MATCH_HEADER
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse

# A cache may store an alert, but must compare its entity tag before each use.
REVALIDATE = {"Cache-Control": "private, no-cache"}
WEAK_ETAG = re.compile(r'W/"[^"]*"')


def etag(alert: Alert) -> str:
    """Return the entity tag of an alert: the time of its last change, which differs between any two of its states."""
    return f'"{alert.updated_at}"'


def alert_response(alert: Alert, status_code: int | None = None) -> JSONResponse[Alert]:
    """Return a response with an alert and its entity tag. Without a status code, that of the route applies."""
    return JSONResponse(alert, status_code=status_code, headers={"ETag": etag(alert)})


def read_if_match(request: Request) -> str | None:
    """Return the strong entity tags of the If-Match header, or None if the request has no condition that can fail.

    `*` matches every alert that exists. Weak entity tags match none (RFC 9110, section 13.1.1).
    """
    field_value = _field_value(request, IF_MATCH_HEADER)
    return None if field_value in {"", "*"} else WEAK_ETAG.sub("", field_value)


def is_not_modified(request: Request, alert: Alert) -> bool:
    """Return whether the If-None-Match header of a request is `*` or names the entity tag of an alert."""
    field_value = _field_value(request, b"if-none-match")
    return field_value == "*" or etag(alert) in field_value


def _field_value(request: Request, header: bytes) -> str:
    """Join the lines of a header. An empty line becomes an entity tag that no alert has."""
    return b",".join(value or b'""' for value in request.header_values(header)).decode("latin-1")
