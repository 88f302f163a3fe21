"""Who may call."""

import hmac
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard

from alerts_service.errors import InvalidToken, Unauthorized

SERVICE_KEY_HEADER = "x-service-key"


def requires_service_key(keys: Sequence[str]) -> Guard:
    """Make a guard that raises Unauthorized unless the request carries one of `keys` in its `x-service-key` header.

    A guard runs before the body is read. The keys are compared as bytes, in a time that does not tell how much fits,
    nor which of them does.
    """
    expected = [key.encode() for key in keys]

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        given = connection.headers.get(SERVICE_KEY_HEADER, "").encode("latin-1")
        if sum(hmac.compare_digest(given, key) for key in expected) == 0:  # which compares each
            raise Unauthorized(f"the header {SERVICE_KEY_HEADER} must hold the internal service key")
        connection.scope["user"] = "service"

    return guard


def requires_tenant_token(verify: Callable[[str], tuple[UUID, str, float]]) -> Guard:
    """Make a guard that raises InvalidToken unless `verify` finds a tenant and a subject in the request's bearer token.

    These are then the request's `tenant` and `actor`. The expiry is kept for `Request.check_token`.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        scheme, _blank, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidToken("the header authorization must hold Bearer and a tenant's token")
        scope: Any = connection.scope
        scope["auth"], subject, scope["token_expires_at"] = verify(token)
        scope["user"] = f"token:{subject}" if subject else "token"

    return guard
