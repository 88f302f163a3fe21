"""Concurrent requests on a small connection pool: limits, timeouts, shared statements, shutdown."""

import asyncio
import time
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.bootstrap import ready_database
from alerts_service.db.pool import Connections
from alerts_service.db.queries import Query
from alerts_service.errors import DatabaseBusy
from alerts_service.settings import Settings
from alerts_service.stats.controller import GET_STATS
from tests.support.api import assert_error, client_for, create_alert
from tests.support.database import open_database, settings_for

pytestmark = pytest.mark.anyio


async def test_the_shutdown_does_not_wait_for_a_connection_that_is_never_released(settings: Settings) -> None:
    url = str(settings.database_url)
    async with open_database(url, pool_size=1, pool_timeout=0.2, statement_timeout=5) as database:
        connection = database.connections.acquire()
        await connection.__aenter__()
        started = time.monotonic()
    assert time.monotonic() - started < 2


async def test_the_shutdown_waits_for_running_statements_only(settings: Settings) -> None:
    url = str(settings.database_url)
    async with open_database(url, pool_size=1, pool_timeout=5, statement_timeout=5) as database:

        async def sleep() -> None:
            async with database.connections.acquire() as connection:
                await connection.execute("SELECT pg_sleep(0.3)")

        statement = asyncio.create_task(sleep())
        await asyncio.sleep(0.1)
        started = time.monotonic()
    assert statement.done()
    assert 0.1 < time.monotonic() - started < 2


async def test_the_settings_limit_the_pool_and_its_timeouts(empty_database: str, tenant: UUID) -> None:
    settings = settings_for(database_url=empty_database, pool_size=1, pool_timeout=0.2, statement_timeout=0.3)
    async with ready_database(settings) as database, database.connections.acquire() as connection:
        assert database.connections.limit == 1
        started = time.monotonic()
        with pytest.raises(DatabaseBusy, match="timed out waiting for a database connection"):
            await database.one(GET_STATS, tenant_id=tenant)
        assert 0.19 < time.monotonic() - started < 1.5
        started = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("SELECT pg_sleep(2)")
        assert 0.29 < time.monotonic() - started < 1.5


async def test_requests_beyond_the_queue_limit_are_rejected_at_once(settings: Settings, tenant: UUID) -> None:
    """The queued requests succeed."""
    app = create_app(settings, None)
    url = str(settings.database_url)
    async with open_database(url, pool_size=1, pool_timeout=15, statement_timeout=5) as database:
        app.state.database = database
        async with client_for(app) as client, database.connections.acquire():
            requests = [asyncio.create_task(client.get(f"/stats/{tenant}")) for _ in range(4400)]
            done, queued = await asyncio.wait(requests, timeout=3)
            rejected = [request.result() for request in done]
        responses = await asyncio.gather(*queued)
    assert rejected
    assert_error(rejected[0], 503, "Service unavailable", "too many requests are waiting")
    assert {response.status_code for response in rejected} == {503}
    assert {response.status_code for response in responses} == {200}
    assert len(responses) >= 4000


async def test_equal_reads_that_wait_together_are_one_query(settings: Settings, tenant: UUID) -> None:
    """A read that starts after a write returns its effect."""
    async with open_database(str(settings.database_url), pool_size=1, pool_timeout=5, statement_timeout=5) as database:
        queries: list[object] = []
        fetch = database._fetch  # noqa: SLF001 - counts the queries that reach the database

        async def count_and_fetch(connections: Connections, query: Query, values: list[object]) -> list[asyncpg.Record]:
            queries.append(values)
            return await fetch(connections, query, values)

        database._fetch = count_and_fetch  # type: ignore[method-assign, assignment] # noqa: SLF001 - as above
        async with client_for(create_app(settings, database)) as client:
            await create_alert(client, tenant)
            queries.clear()
            responses = await asyncio.gather(*(client.get(f"/stats/{tenant}") for _ in range(20)))
            assert {response.json()["total"] for response in responses} == {1}
            assert queries == [[(tenant,)]] * 3
            for total in range(2, 12):
                await create_alert(client, tenant)
                assert (await client.get(f"/stats/{tenant}")).json()["total"] == total


async def test_each_request_of_a_batch_receives_its_own_result(client: httpx.AsyncClient) -> None:
    """Some of the requests are equal."""
    tenants = [uuid4() for _ in range(40)]
    tenants_of_alerts = [tenant for tenant in tenants for _ in range(2)]
    alerts = await asyncio.gather(*(create_alert(client, tenant, message=str(tenant)) for tenant in tenants_of_alerts))
    assert len({alert["id"] for alert in alerts}) == 80
    assert [alert["message"] for alert in alerts] == [alert["tenant_id"] for alert in alerts]
    assert [alert["tenant_id"] for alert in alerts] == [str(tenant) for tenant in tenants_of_alerts]
    fetched = await asyncio.gather(*(client.get(f"/alerts/{alert['id']}") for alert in alerts))
    assert [response.json() for response in fetched] == alerts
    ids = [alert["id"] for alert in alerts[::2]]
    resolved = await asyncio.gather(*(client.put(f"/alerts/{id_}/resolve", json={"note": id_}) for id_ in ids))
    notes = [(response.json()["id"], response.json()["resolution_note"]) for response in resolved]
    assert notes == [(id_, id_) for id_ in ids]
    await create_alert(client, tenants[0])
    stats = await asyncio.gather(*(client.get(f"/stats/{tenant}") for tenant in tenants))
    assert [response.json()["total"] for response in stats] == [3] + [2] * 39
