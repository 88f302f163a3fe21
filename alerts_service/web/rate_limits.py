"""How often a tenant or a service key may call, in this process."""

import math
import time
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard

from alerts_service.errors import TooManyRequests
from alerts_service.web.guards import SERVICE_KEY_HEADER
from alerts_service.web.requests import Request

NANOSECONDS = 10**9
PERIODS = {"second": NANOSECONDS, "minute": 60 * NANOSECONDS, "hour": 3600 * NANOSECONDS}

# Clients may name any tenant, so the number of buckets is bounded: 131,072 take about 20 MiB. An eviction takes 1 ms.
SHARDS = 64
MAX_SHARD_SIZE = 2048


class RateLimit:
    """A bucket for each `whose`: so many calls at once, and as many again in a second, a minute or an hour.

    The generic cell rate algorithm (ITU-T I.371): a bucket is the time at which it will be empty again, and each call
    moves that time by one interval, up to a whole period ahead.
    """

    def __init__(self, whose: str, rate: str) -> None:
        self._whose, self._rate = whose, rate
        count, _, period = rate.partition("/")
        self._period = PERIODS[period]
        self._interval = self._period // int(count)  # integers: a rounded float would make the burst one call shorter
        self._shards: list[dict[str | bytes, int]] = [{} for _ in range(SHARDS)]

    def count(self, name: str | bytes) -> None:
        """Count a call.

        Raises:
            TooManyRequests: it is one too many.
        """
        shard = self._shards[hash(name) % SHARDS]  # random per process: no client can aim at a shard
        now = time.monotonic_ns()
        empty_at = max(now, shard.get(name, now)) + self._interval
        excess = empty_at - now - self._period
        if excess > 0:
            raise TooManyRequests(f"the limit of a {self._whose} is {self._rate}", math.ceil(excess / NANOSECONDS))
        shard[name] = empty_at
        if len(shard) > MAX_SHARD_SIZE:
            _evict(shard)


def _evict(shard: dict[str | bytes, int]) -> None:
    """Drop half of the buckets: those that are empty, then those that will be empty soonest.

    A bucket at its limit is empty last, so naming other tenants does not reset it.
    """
    for name in sorted(shard, key=shard.__getitem__)[: len(shard) // 2]:
        del shard[name]


def rate_limit(request: Request, tenant_id: UUID | None) -> None:
    """Count a call against the limit of `AS_ALERTS_RATE_LIMIT_TENANT`, if it is set.

    The call counts for the tenant of the token, or without a token for the tenant that the request names, if any.

    Raises:
        TooManyRequests: the tenant has reached its limit.
    """
    limit: RateLimit | None = request.app.state.tenant_rate_limit
    caller = request.tenant or tenant_id
    if limit is not None and caller is not None:
        limit.count(caller.bytes)


def limits_service_key(rate: str) -> Guard:
    """Make a guard that counts calls by their service key; it stands behind the one that looks whether it is right."""
    limit = RateLimit("service key", rate)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        limit.count(connection.headers[SERVICE_KEY_HEADER])

    return guard
