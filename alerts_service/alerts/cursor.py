"""The opaque cursor of a list: the place right behind one alert, newest first."""

import struct
from base64 import b64decode, urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from uuid import UUID

from alerts_service.errors import Invalid

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
PLACE = struct.Struct(">q16s")


def encode(created_at: datetime, id_: UUID) -> str:
    """Write a place as 32 characters that a URL carries as they are."""
    return urlsafe_b64encode(PLACE.pack((created_at - EPOCH) // MICROSECOND, id_.bytes)).decode()


def decode(cursor: str) -> tuple[datetime, UUID]:
    """Read a place back.

    Raises:
        Invalid: it is none of ours.
    """
    try:
        microseconds, id_ = PLACE.unpack(b64decode(cursor, altchars=b"-_", validate=True))
        return EPOCH + microseconds * MICROSECOND, UUID(bytes=id_)
    except (ValueError, OverflowError, struct.error):
        raise Invalid("cursor: not a cursor of this list") from None
