"""Entity tags of alerts and conditional requests (RFC 9110, sections 8.8.3 and 13.1)."""

import re

from alerts_service.alerts.structs import Alert
from alerts_service.web.idempotency import IF_MATCH_HEADER
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse

# A private cache may store an alert, but must revalidate it before each use.
REVALIDATE = {"Cache-Control": "private, no-cache"}
WEAK_ETAG = re.compile(r'W/"[^"]*"')


def etag(alert: Alert) -> str:
    """Return the entity tag of an alert: its `updated_at` in quotes, which every change of the alert changes."""
    return f'"{alert.updated_at}"'


def alert_response(alert: Alert, status_code: int | None = None) -> JSONResponse[Alert]:
    """Return a response with an alert and its entity tag. The default of `status_code` is the status of the route."""
    return JSONResponse(alert, status_code=status_code, headers={"ETag": etag(alert)})


def read_if_match(request: Request) -> str | None:
    """Return the strong entity tags of the If-Match header, or None if the header is missing or is `*`.

    `*` matches every alert. Weak entity tags match no alert (RFC 9110, section 13.1.1).
    """
    field_value = _field_value(request, IF_MATCH_HEADER)
    return None if field_value in {"", "*"} else WEAK_ETAG.sub("", field_value)


def is_not_modified(request: Request, alert: Alert) -> bool:
    """Return whether the If-None-Match header of a request is `*` or contains the entity tag of an alert."""
    field_value = _field_value(request, b"if-none-match")
    return field_value == "*" or etag(alert) in field_value


def _field_value(request: Request, header: bytes) -> str:
    """Join the lines of a header. Replace an empty line by `""`, which is not the entity tag of any alert."""
    return b",".join(value or b'""' for value in request.header_values(header)).decode("latin-1")
