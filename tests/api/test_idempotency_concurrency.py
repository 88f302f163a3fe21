"""Concurrent requests with an Idempotency-Key, and requests that the database cannot complete."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.db.pool import Connection
from tests.support.api import assert_error, create_alert
from tests.support.idempotency import assert_replayed, count_advisory_locks, count_rows, create_with_key

pytestmark = pytest.mark.anyio


async def test_after_a_database_error_the_change_is_rolled_back_and_the_key_is_unused(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with connection.transaction():
        # The response is stored after the alert, so the lock stops the request between the two.
        await connection.execute("LOCK TABLE idempotency_keys IN EXCLUSIVE MODE")
        response = await create_with_key(client, tenant, "a")
        assert_error(
            response, 503, "Service unavailable", "could not lock a row in time, because of concurrent changes"
        )
    assert await count_rows(connection, tenant) == 0
    states = await connection.fetch("SELECT state FROM pg_stat_activity WHERE datname = current_database()")
    assert "in transaction" not in str(states)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert (await create_with_key(client, tenant, "a")).status_code == 201
    assert await count_rows(connection, tenant) == 1


async def test_a_key_whose_first_request_is_running_is_409_with_retry_after(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    async with connection.transaction():
        await connection.execute("LOCK TABLE alert_counts IN EXCLUSIVE MODE")
        first = asyncio.create_task(create_with_key(client, tenant, "a"))
        while await count_advisory_locks(connection) == 0:
            assert not first.done()
        second = await create_with_key(client, tenant, "a")
        alerts = await client.get("/alerts", params={"tenant_id": str(tenant)})
    assert_error(second, 409, "Request in progress", "Idempotency-Key: the first request")
    assert second.headers["retry-after"] == "1"
    assert alerts.json() == []
    assert_replayed(await first, await create_with_key(client, tenant, "a"))


async def test_exactly_one_of_fifty_concurrent_requests_with_one_key_is_executed(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    """The others are 409 or receive its response."""
    responses = await asyncio.gather(*(create_with_key(client, tenant, "a") for _ in range(50)))
    (executed,) = (
        response
        for response in responses
        if response.status_code == 201 and "idempotent-replayed" not in response.headers
    )
    for response in responses:
        if response.status_code == 409:
            assert_error(response, 409, "Request in progress")
        elif response is not executed:
            assert_replayed(executed, response)
    assert await count_rows(connection, tenant) == await count_rows(connection, tenant, "alert_events") == 1


async def test_requests_with_keys_leave_a_connection_to_requests_without(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    alert = await create_alert(client, tenant)
    async with connection.transaction():
        await connection.execute("LOCK TABLE alert_counts IN EXCLUSIVE MODE")
        blocked = [asyncio.create_task(create_with_key(client, tenant, str(number))) for number in range(30)]
        while await count_advisory_locks(connection) < 4:
            assert not all(request.done() for request in blocked)
        started = asyncio.get_running_loop().time()
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert
        assert asyncio.get_running_loop().time() - started < 0.2
    assert {response.status_code for response in await asyncio.gather(*blocked)} <= {201, 503}


async def test_blocked_requests_of_one_tenant_do_not_delay_another_tenant(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    """Sixty transitions wait for the locked alerts of one tenant. None of the requests names its tenant."""
    locked, other = await create_alert(client, tenant), await create_alert(client, uuid4())

    async def resolve(alert: dict[str, Any]) -> httpx.Response:
        return await client.put(f"/alerts/{alert['id']}/resolve", headers={"Idempotency-Key": uuid4().hex})

    async with connection.transaction():
        await connection.execute("SELECT FROM alerts WHERE tenant_id = $1 FOR UPDATE", tenant)
        blocked = [asyncio.create_task(resolve(locked)) for _ in range(60)]
        while await count_advisory_locks(connection) < 4:
            assert not all(request.done() for request in blocked)
        started = asyncio.get_running_loop().time()
        assert (await resolve(other)).status_code == 200
        assert asyncio.get_running_loop().time() - started < 1
        await asyncio.gather(*blocked)
