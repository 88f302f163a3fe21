"""Cursors of paginated lists.

A cursor is the sort key of the last row of a page, packed and encoded as URL-safe base64. The next page begins after
this row. Clients must treat a cursor as opaque.
"""

import struct
from base64 import b64decode, urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote
from uuid import UUID

import litestar

from alerts_service.errors import ValidationFailed

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
# Both sizes are multiples of 3 bytes. The base64 therefore has no padding, which a URL would have to escape.
ALERT_FORMAT = struct.Struct(">q16s")
EVENT_FORMAT = struct.Struct(">q16s2xi")


def encode_alert_cursor(created_at: datetime, id_: UUID) -> str:
    """Encode the sort key of an alert as 32 URL-safe characters."""
    return _encode(ALERT_FORMAT, created_at, id_)


def decode_alert_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Decode the sort key of an alert: `created_at` and `id`.

    Raises:
        ValidationFailed: The cursor is not valid.
    """
    created_at, id_ = _decode(ALERT_FORMAT, cursor)
    return created_at, id_


def encode_event_cursor(occurred_at: datetime, alert_id: UUID, sequence: int) -> str:
    """Encode the sort key of an event as 40 URL-safe characters."""
    return _encode(EVENT_FORMAT, occurred_at, alert_id, sequence)


def decode_event_cursor(cursor: str) -> tuple[datetime, UUID, int]:
    """Decode the sort key of an event: `occurred_at`, `alert_id` and `sequence`.

    Raises:
        ValidationFailed: The cursor is not valid.
    """
    occurred_at, alert_id, sequence = _decode(EVENT_FORMAT, cursor)
    return occurred_at, alert_id, sequence


def _encode(format_: struct.Struct, time: datetime, id_: UUID, *sequence: int) -> str:
    return urlsafe_b64encode(format_.pack((time - EPOCH) // MICROSECOND, id_.bytes, *sequence)).decode()


def _decode(format_: struct.Struct, cursor: str) -> tuple[Any, ...]:
    try:
        microseconds, id_, *sequence = format_.unpack(b64decode(cursor, altchars=b"-_", validate=True))
        return EPOCH + microseconds * MICROSECOND, UUID(bytes=id_), *sequence
    except (ValueError, OverflowError, struct.error):
        raise ValidationFailed("cursor: not valid; use the cursor in the Link header of the previous page") from None


def next_page_link(request: litestar.Request[Any, Any, Any], cursor: str) -> dict[str, str]:
    """Return the `Link` header (RFC 8288) of the next page: the URL of the request with another cursor."""
    scope = request.scope
    parameters = scope["query_string"].decode("latin-1").split("&")
    filters = [parameter for parameter in parameters if parameter and not parameter.startswith("cursor=")]
    query = quote("&".join((*filters, f"cursor={cursor}")), safe="%&=+,:")
    return {"Link": f'<{scope["root_path"]}{scope["path"]}?{query}>; rel="next"'}
