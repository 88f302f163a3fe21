"""Responses while the database is lost, slow, locked or out of connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.alerts.statements import TRANSITIONS
from alerts_service.app import create_app
from alerts_service.db.database import Database
from alerts_service.db.pool import Connections, connect_options
from alerts_service.db.queries import load_queries
from alerts_service.errors import ValidationFailed
from alerts_service.settings import Settings
from tests.support.api import UNKNOWN_ALERT_ID, alert_body, assert_error, client_for, create_alert, data_requests
from tests.support.database import POOLER, open_database, settings_for

pytestmark = pytest.mark.anyio

LOCK_ALERT = "SELECT FROM alerts WHERE id = $1 FOR UPDATE"


async def test_a_value_that_the_database_cannot_store_is_a_validation_error(settings: Settings) -> None:
    """The controllers reject NUL in a text earlier."""
    async with open_database(str(settings.database_url), pool_size=1, pool_timeout=1, statement_timeout=1) as database:
        with pytest.raises(ValidationFailed):
            await database.one_or_none(
                TRANSITIONS["resolved"],
                id=UNKNOWN_ALERT_ID,
                tenant_id=None,
                note="nul \0 inside",
                if_match=None,
                actor="anonymous",
                request_id=None,
            )


async def close_database(server_url: str, database_url: str) -> None:
    """Terminate every connection to a database, and reject new connections."""
    name = urlsplit(database_url).path[1:]
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await admin.close()


async def test_without_a_database_data_routes_are_500_and_health_is_503(
    server_url: str, empty_database: str, tenant: UUID
) -> None:
    """The process is still live."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        await create_alert(client, tenant)
        await close_database(server_url, empty_database)
        for method, path, body in data_requests(tenant):
            assert_error(await client.request(method, path, json=body), 500, "Database connection error")
        for path in ("/health", "/health/details"):
            assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
        assert (await client.get("/health/live")).status_code == 200


async def test_a_request_without_a_free_connection_is_503_with_retry_after(settings: Settings, tenant: UUID) -> None:
    """The health check has a connection of its own."""
    async with (
        open_database(str(settings.database_url), pool_size=1, pool_timeout=0.2, statement_timeout=5) as database,
        client_for(create_app(settings, database)) as client,
    ):
        await create_alert(client, tenant)
        async with database.connections.acquire():
            response = await client.get(f"/stats/{tenant}")
            assert_error(response, 503, "Service unavailable", "timed out waiting for a database connection")
            assert response.headers["retry-after"] == "1"
            assert (await client.get("/health")).status_code == 200
        assert (await client.get(f"/stats/{tenant}")).status_code == 200


async def test_a_transition_that_waits_for_a_lock_is_503_and_changes_nothing(settings: Settings, tenant: UUID) -> None:
    async with (
        open_database(str(settings.database_url), pool_size=2, pool_timeout=1, statement_timeout=0.3) as database,
        client_for(create_app(settings, database)) as client,
    ):
        alert = await create_alert(client, tenant)
        locker = await asyncpg.connect(settings.database_url)
        async with locker.transaction():
            await locker.execute(LOCK_ALERT, UUID(alert["id"]))
            response = await client.put(f"/alerts/{alert['id']}/acknowledge")
            assert_error(response, 503, "Service unavailable")
        await locker.close()
        await asyncio.sleep(0.2)
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_a_create_that_times_out_is_503_without_retry_after(settings: Settings, tenant: UUID) -> None:
    """Its outcome is unknown: a client that sent it again could create the alert twice."""
    async with (
        open_database(str(settings.database_url), pool_size=1, pool_timeout=1, statement_timeout=0.1) as database,
        client_for(create_app(settings, database)) as client,
    ):
        locker = await asyncpg.connect(settings.database_url)
        async with locker.transaction():
            await locker.execute("LOCK TABLE alerts IN EXCLUSIVE MODE")
            response = await client.post("/alerts", json=alert_body(tenant))
            assert_error(response, 503, "Service unavailable", "may still have been made")
            assert "retry-after" not in response.headers
        await locker.close()


async def acknowledge_locked_alert(
    client: httpx.AsyncClient, url: str, alert: dict[str, Any], expression: str
) -> httpx.Response:
    """Acknowledge an alert whose row is locked, and evaluate an expression for the `pid` that waits for the lock."""
    locker = await asyncpg.connect(url)
    async with locker.transaction():
        await locker.execute(LOCK_ALERT, UUID(alert["id"]))
        request = asyncio.create_task(client.put(f"/alerts/{alert['id']}/acknowledge"))
        while not request.done():
            await locker.execute(
                f"SELECT {expression} FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
            )
            await asyncio.sleep(0.01)
    await locker.close()
    return request.result()


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        ("pg_cancel_backend(pid)", "the statement timed out"),
        ("pid", "could not lock a row in time, because of concurrent changes"),
    ],
    ids=["cancelled", "lock timeout"],
)
async def test_a_statement_that_the_server_cancels_is_503_and_changes_nothing(
    empty_database: str, tenant: UUID, expression: str, detail: str
) -> None:
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        alert = await create_alert(client, tenant)
        response = await acknowledge_locked_alert(client, empty_database, alert, expression)
        assert_error(response, 503, "Service unavailable", detail)
        assert response.headers["retry-after"] == "1"
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_a_connection_that_is_lost_during_a_statement_is_replaced(empty_database: str, tenant: UUID) -> None:
    """The request is 500. It is not retried, but the next request succeeds."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        alert = await create_alert(client, tenant)
        response = await acknowledge_locked_alert(client, empty_database, alert, "pg_terminate_backend(pid)")
        assert_error(response, 500, "Database connection error")
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert
        assert (await client.put(f"/alerts/{alert['id']}/acknowledge")).status_code == 200


async def test_idle_connections_that_are_lost_are_replaced_without_an_error(empty_database: str, tenant: UUID) -> None:
    app = create_app(settings_for(database_url=empty_database, pool_size=2))
    async with app.lifespan(), client_for(app) as client:
        await asyncio.gather(*(create_alert(client, tenant) for _ in range(5)))
        admin = await asyncpg.connect(empty_database)
        await admin.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        responses = await asyncio.gather(*(client.get(f"/alerts?tenant_id={tenant}") for _ in range(5)))
        assert [response.status_code for response in responses] == [200] * 5
        assert (await client.get("/health")).status_code == 200


@asynccontextmanager
async def open_single_connection(
    url: str | None, connection_class: type[asyncpg.Connection]
) -> AsyncIterator[Database]:
    pool = await asyncpg.create_pool(
        url, min_size=1, max_size=1, connection_class=connection_class, **connect_options(pooler=POOLER)
    )
    connections = Connections(pool, 2)
    try:
        yield Database(load_queries(), connections, 2)
    finally:
        await connections.close()


class LostOnRelease(asyncpg.Connection):
    """A connection that is lost when it is released to the pool, after its statement was committed."""

    lost_connections = 0

    async def reset(self, *, timeout: float | None = None) -> None:
        del timeout
        LostOnRelease.lost_connections += 1
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError


async def test_a_connection_that_is_lost_after_the_commit_does_not_repeat_the_statement(
    settings: Settings, tenant: UUID
) -> None:
    async with (
        open_single_connection(settings.database_url, LostOnRelease) as database,
        client_for(create_app(settings, database)) as client,
    ):
        alerts = await asyncio.gather(*(create_alert(client, tenant) for _ in range(10)))
        assert (await client.get(f"/stats/{tenant}")).json()["total"] == len(alerts) == 10
        assert LostOnRelease.lost_connections


class OutOfSync(asyncpg.Connection):
    """An open connection whose client cannot interpret the messages of the server."""

    async def fetch(self, *_: object, **__: object) -> NoReturn:
        raise asyncpg.InternalClientError("got result for unknown protocol state")


async def test_a_connection_whose_protocol_is_out_of_sync_is_not_used_again(settings: Settings, tenant: UUID) -> None:
    async with (
        open_single_connection(settings.database_url, OutOfSync) as database,
        client_for(create_app(settings, database)) as client,
    ):
        async with database.connections.acquire() as connection:
            pid = connection.get_server_pid()
        assert_error(await client.get(f"/stats/{tenant}"), 500, "Database connection error")
        async with database.connections.acquire() as connection:
            assert connection.get_server_pid() != pid


async def test_a_locked_alert_does_not_delay_other_tenants(settings: Settings) -> None:
    url = str(settings.database_url)
    async with (
        open_database(url, pool_size=3, pool_timeout=2, statement_timeout=1) as database,
        client_for(create_app(settings, database)) as client,
    ):
        locked, *others = [await create_alert(client, uuid4()) for _ in range(11)]
        locker = await asyncpg.connect(url)
        async with locker.transaction():
            await locker.execute(LOCK_ALERT, UUID(locked["id"]))
            responses = await asyncio.gather(
                *(client.put(f"/alerts/{alert['id']}/acknowledge") for alert in (locked, *others))
            )
        await locker.close()
        assert [response.status_code for response in responses] == [503] + [200] * 10
