"""Who may call."""

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard

from alerts_service.errors import Unauthorized

SERVICE_KEY_HEADER = "x-service-key"


def requires_service_key(key: str) -> Guard:
    """Make a guard that raises Unauthorized unless the request carries `key` in its `x-service-key` header.

    A guard runs before the body is read. The keys are compared as bytes, in a time that does not tell how much fits.
    """
    expected = key.encode()

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        given = connection.headers.get(SERVICE_KEY_HEADER, "").encode("latin-1")
        if not hmac.compare_digest(given, expected):
            raise Unauthorized(f"the header {SERVICE_KEY_HEADER} must hold the internal service key")

    return guard
