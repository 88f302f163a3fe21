"""The opaque cursor of a list: the place right behind one of its rows."""

import re
from base64 import b64decode, urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from struct import Struct, error
from typing import Any
from urllib.parse import quote
from uuid import UUID

import litestar

from alerts_service.errors import ValidationFailed

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
ALERT = Struct(">q16s")
EVENT = Struct(">q16s2xi")
CURSOR_PARAMETER = re.compile(r"(?:^|&)cursor=[^&]*")


def encode(created_at: datetime, id_: UUID) -> str:
    """Write an alert's place as 32 characters that a URL carries as they are."""
    return _encode(ALERT, created_at, id_)


def decode(cursor: str) -> tuple[datetime, UUID]:
    """Read an alert's place back.

    Raises:
        ValidationFailed: it is none of ours.
    """
    created_at, id_ = _decode(ALERT, cursor)
    return created_at, id_


def encode_event(occurred_at: datetime, alert_id: UUID, sequence: int) -> str:
    """Write an event's place as 40 characters that a URL carries as they are."""
    return _encode(EVENT, occurred_at, alert_id, sequence)


def decode_event(cursor: str) -> tuple[datetime, UUID, int]:
    """Read an event's place back.

    Raises:
        ValidationFailed: it is none of ours.
    """
    occurred_at, alert_id, sequence = _decode(EVENT, cursor)
    return occurred_at, alert_id, sequence


def _encode(place: Struct, moment: datetime, id_: UUID, *more: int) -> str:
    return urlsafe_b64encode(place.pack((moment - EPOCH) // MICROSECOND, id_.bytes, *more)).decode()


def _decode(place: Struct, cursor: str) -> tuple[Any, ...]:
    try:
        microseconds, id_, *more = place.unpack(b64decode(cursor, altchars=b"-_", validate=True))
        return EPOCH + microseconds * MICROSECOND, UUID(bytes=id_), *more
    except (ValueError, OverflowError, error):
        raise ValidationFailed("cursor: not a cursor of this list") from None


def next_page_link(request: litestar.Request[Any, Any, Any], cursor: str) -> dict[str, str]:
    """Return the `Link` header (RFC 8288) of the page after the one that the request asks for."""
    scope = request.scope
    query = CURSOR_PARAMETER.sub("", scope["query_string"].decode("latin-1"))
    path = f"{scope['root_path']}{scope['path']}"
    return {"Link": f'<{path}?{quote(query, safe="%&=+,:")}&cursor={cursor}>; rel="next"'}
