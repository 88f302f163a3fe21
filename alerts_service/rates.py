"""How often a tenant or a service key may call, in this process."""

import math
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard
from throttled import MemoryStore, Quota, Throttled, rate_limiter

from alerts_service.errors import TooManyRequests
from alerts_service.guards import SERVICE_KEY_HEADER
from alerts_service.requests import Named, Request

# Callers name tenants as they like: those that have been silent for longest are forgotten.
REMEMBERED = 100_000

QUOTAS = {"second": rate_limiter.per_sec, "minute": rate_limiter.per_min, "hour": rate_limiter.per_hour}


class RateLimit:
    """A bucket for each `whose`: so many calls at once, and as many again in a second, a minute or an hour."""

    def __init__(self, whose: str, rate: str) -> None:
        self._whose, self._rate = whose, rate
        store = MemoryStore(options={"MAX_SIZE": REMEMBERED})
        self._throttled = Throttled(using="gcra", quota=_quota(rate), store=store)

    def count(self, name: str) -> None:
        """Count a call.

        Raises:
            TooManyRequests: it is one too many.
        """
        result = self._throttled.limit(name)
        if result.limited:
            raise TooManyRequests(f"the limit of a {self._whose} is {self._rate}", math.ceil(result.state.retry_after))


def _quota(rate: str) -> Quota:
    count, _, period = rate.partition("/")
    return QUOTAS[period](int(count), burst=int(count))


def limited_requests(rate: str) -> type[Request]:
    """Make a request class whose requests count as calls of their tenants.

    That is the token's, whomever the request names, and without tokens the one that it names, if any.
    """
    limit = RateLimit("tenant", rate)

    class LimitedRequest(Request):
        def admit(self, tenant_id: Named) -> Named:
            """Count a call of the tenant, if it may call."""
            caller = self.tenant or tenant_id
            if caller is not None:
                limit.count(str(caller))
            return super().admit(tenant_id)

    return LimitedRequest


def limits_service_key(rate: str) -> Guard:
    """Make a guard that counts calls by their service key; it stands behind the one that looks whether it is right."""
    limit = RateLimit("service key", rate)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        limit.count(connection.headers[SERVICE_KEY_HEADER])

    return guard
