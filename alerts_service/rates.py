"""How often a tenant or a service key may call, in this process."""

import math
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard
from throttled import MemoryStore, Quota, Throttled, rate_limiter

from alerts_service.database import Database, Row, Statement
from alerts_service.errors import TooManyRequests
from alerts_service.guards import SERVICE_KEY_HEADER
from alerts_service.requests import Request

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


class LimitedDatabase:
    """The database for one request, which counts as one call of its tenant whatever it takes to answer it.

    Every statement that is a tenant's is told so: so no route can be forgotten.
    """

    def __init__(self, database: Database, limit: RateLimit) -> None:
        self._database, self._limit = database, limit
        self._counted = False

    def __getattr__(self, name: str) -> Any:
        """Be the database in all else."""
        return getattr(self._database, name)

    async def one_or_none(self, statement: Statement[Row], /, **arguments: object) -> Row | None:
        """Run a statement if its tenant may call."""
        self._count(arguments)
        return await self._database.one_or_none(statement, **arguments)

    async def one(self, statement: Statement[Row], /, **arguments: object) -> Row:
        """Run a statement if its tenant may call."""
        self._count(arguments)
        return await self._database.one(statement, **arguments)

    def _count(self, arguments: dict[str, object]) -> None:
        tenant = arguments.get("tenant_id")
        if tenant is not None and not self._counted:
            self._counted = True
            self._limit.count(str(tenant))


def limited_requests(rate: str) -> type[Request]:
    """Make a request class whose requests count as calls of their tenants."""
    limit = RateLimit("tenant", rate)

    class LimitedRequest(Request):
        _limited: LimitedDatabase | None = None

        @property
        def database(self) -> Any:
            """The database, once this tenant may call."""
            if self._limited is None:
                self._limited = LimitedDatabase(super().database, limit)
            return self._limited

    return LimitedRequest


def limits_service_key(rate: str) -> Guard:
    """Make a guard that counts calls by their service key; it stands behind the one that looks whether it is right."""
    limit = RateLimit("service key", rate)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        limit.count(connection.headers[SERVICE_KEY_HEADER])

    return guard
