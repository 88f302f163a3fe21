"""Guards that authenticate requests with the service key or a tenant token, before the body is read."""

import hmac
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard

from alerts_service.errors import InvalidToken, Unauthorized

SERVICE_KEY_HEADER = "x-service-key"

# Returns the tenant, the subject and the expiry (seconds since 1970) of a token, or raises InvalidToken.
VerifyToken: TypeAlias = Callable[[str], tuple[UUID, str, float]]


def requires_service_key(keys: Sequence[str]) -> Guard:
    """Create a guard that accepts a request with one of `keys` in its `x-service-key` header.

    The guard raises Unauthorized for other requests. The header is compared with every key in constant time, so that
    the response time reveals neither a correct prefix nor the matching key.
    """
    accepted_keys = [key.encode() for key in keys]

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        sent_key = connection.headers.get(SERVICE_KEY_HEADER, "").encode("latin-1")
        # `sum` compares all keys; `any` would stop at the first match.
        if sum(hmac.compare_digest(sent_key, key) for key in accepted_keys) == 0:
            raise Unauthorized(f"{SERVICE_KEY_HEADER}: missing or not a valid service key")
        connection.scope["user"] = "service"

    return guard


def requires_tenant_token(verify: VerifyToken) -> Guard:
    """Create a guard that accepts a request with a valid tenant token in its `Authorization` header.

    The guard raises InvalidToken for other requests. Tenant, subject and expiry of the token are stored in the scope
    for `Request.tenant`, `Request.actor` and `Request.check_token`.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        scheme, _separator, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidToken("Authorization: must be `Bearer` followed by a tenant token")
        scope: Any = connection.scope
        scope["auth"], subject, scope["token_expires_at"] = verify(token)
        scope["user"] = f"token:{subject}" if subject else "token"

    return guard
