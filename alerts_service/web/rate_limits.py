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

# Clients may name any tenant, so the number of entries is bounded: 131,072 take about 20 MiB. An eviction takes 1 ms.
SHARDS = 64
MAX_SHARD_SIZE = 2048


class RateLimit:
    """A rate limit per client, such as "100/minute": bursts of 100 requests, and an average of 100 in each minute.

    The limit uses the generic cell rate algorithm (GCRA, ITU-T I.371). The entry of a client is its theoretical arrival
    time (TAT). Each accepted request increases the TAT by the emission interval: the period divided by the count. A
    request is rejected if the TAT would be more than one period ahead of the present time.
    """

    def __init__(self, subject: str, rate: str) -> None:
        """Create a limit. `subject` is the kind of client in error messages ("tenant"), `rate` is `count/period`."""
        self._subject, self._rate = subject, rate
        count, _, period = rate.partition("/")
        self._period = PERIODS[period]
        # An integer, because a rounded float would shorten the burst by one request.
        self._emission_interval = self._period // int(count)
        self._shards: list[dict[str | bytes, int]] = [{} for _ in range(SHARDS)]

    def count(self, client: str | bytes) -> None:
        """Count a request of a client.

        Raises:
            TooManyRequests: The client has exceeded the limit. The request is not counted.
        """
        shard = self._shards[hash(client) % SHARDS]  # hashes are random per process, so a client cannot choose a shard
        now = time.monotonic_ns()
        arrival_time = max(now, shard.get(client, now)) + self._emission_interval
        excess = arrival_time - now - self._period
        if excess > 0:
            raise TooManyRequests(
                f"rate limit of {self._rate} for this {self._subject} exceeded", math.ceil(excess / NANOSECONDS)
            )
        shard[client] = arrival_time
        if len(shard) > MAX_SHARD_SIZE:
            _evict(shard)


def _evict(shard: dict[str | bytes, int]) -> None:
    """Delete the half of the entries with the earliest theoretical arrival times.

    The entry of a client at its limit has the latest time, so a client cannot reset its limit by naming other tenants.
    """
    for client in sorted(shard, key=shard.__getitem__)[: len(shard) // 2]:
        del shard[client]


def rate_limit(request: Request, tenant_id: UUID | None) -> None:
    """Count a request against the limit in `AS_ALERTS_RATE_LIMIT_TENANT`. Without this setting, do nothing.

    The request counts for the tenant of its token. Without a token, the request counts for `tenant_id`, the tenant that
    the request names. Without either, no limit applies.

    Raises:
        TooManyRequests: The tenant has exceeded its limit.
    """
    limit: RateLimit | None = request.app.state.tenant_rate_limit
    tenant = request.tenant or tenant_id
    if limit is not None and tenant is not None:
        limit.count(tenant.bytes)


def limits_service_key(rate: str) -> Guard:
    """Create a guard that limits the requests per service key. The guard that verifies the key must come first."""
    limit = RateLimit("service key", rate)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        limit.count(connection.headers[SERVICE_KEY_HEADER])

    return guard
