"""Rate limits per tenant and per service key, counted in each process."""

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
    """A rate limit with one bucket per client, such as "100/minute": bursts of 100 requests, refilled over a minute.

    The generic cell rate algorithm (ITU-T I.371): a bucket is the time at which it will be empty. Each request moves
    that time by one interval, up to one period ahead.
    """

    def __init__(self, subject: str, rate: str) -> None:
        """Take the kind of client for error messages ("tenant"), and the rate as `count/period`."""
        self._subject, self._rate = subject, rate
        count, _, period = rate.partition("/")
        self._period = PERIODS[period]
        # Integers: a rounded float would make the burst one request shorter.
        self._interval = self._period // int(count)
        self._shards: list[dict[str | bytes, int]] = [{} for _ in range(SHARDS)]

    def count(self, client: str | bytes) -> None:
        """Count a request of a client.

        Raises:
            TooManyRequests: The client has exceeded the limit. The request is not counted.
        """
        shard = self._shards[hash(client) % SHARDS]  # hashes are random per process: no client can aim at a shard
        now = time.monotonic_ns()
        empty_at = max(now, shard.get(client, now)) + self._interval
        excess = empty_at - now - self._period
        if excess > 0:
            raise TooManyRequests(
                f"rate limit of {self._rate} for this {self._subject} exceeded", math.ceil(excess / NANOSECONDS)
            )
        shard[client] = empty_at
        if len(shard) > MAX_SHARD_SIZE:
            _evict(shard)


def _evict(shard: dict[str | bytes, int]) -> None:
    """Delete half of the buckets: first the empty ones, then those that will be empty soonest.

    A bucket at its limit is evicted last, so a client cannot reset it by naming other tenants.
    """
    for client in sorted(shard, key=shard.__getitem__)[: len(shard) // 2]:
        del shard[client]


def rate_limit(request: Request, tenant_id: UUID | None) -> None:
    """Count a request against the limit of `AS_ALERTS_RATE_LIMIT_TENANT`, if it is set.

    The request counts for the tenant of its token. Without a token it counts for `tenant_id`, the tenant that the
    request names, if any.

    Raises:
        TooManyRequests: The tenant has exceeded its limit.
    """
    limit: RateLimit | None = request.app.state.tenant_rate_limit
    tenant = request.tenant or tenant_id
    if limit is not None and tenant is not None:
        limit.count(tenant.bytes)


def limits_service_key(rate: str) -> Guard:
    """Create a guard that limits the requests per service key. Place it after the guard that verifies the key."""
    limit = RateLimit("service key", rate)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        limit.count(connection.headers[SERVICE_KEY_HEADER])

    return guard
