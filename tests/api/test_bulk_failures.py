"""Bulk requests whose items fail in the database, and their effect on other items and other requests."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.db.migrations import migrate
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import alert_body, client_for, create_alert
from tests.support.bulk import bulk_create, bulk_transition, result_statuses
from tests.support.database import open_database

pytestmark = pytest.mark.anyio

LOCK_ALERTS_OF_TENANT = "SELECT FROM alerts WHERE tenant_id = $1 FOR UPDATE"


async def test_items_behind_a_locked_alert_are_created(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    """The first 250 items, which are one statement, are duplicates of the locked alert."""
    await bulk_create(client, alert_body(tenant, dedup_key="locked"))
    locker = await asyncpg.connect(settings.database_url)
    async with locker.transaction():
        await locker.execute(LOCK_ALERTS_OF_TENANT, tenant)
        duplicates = [alert_body(tenant, dedup_key="locked")] * 250
        others = [alert_body(tenant, dedup_key=str(n)) for n in range(20)]
        results = await bulk_create(client, *duplicates, *others)
    await locker.close()
    assert result_statuses(results) == [503] * 250 + [201] * 20


async def test_a_locked_alert_does_not_delay_other_tenants(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    """The request of another tenant waits for at most one of the 30 requests for the locked alert."""
    await bulk_create(client, alert_body(tenant, dedup_key="locked"))
    locker = await asyncpg.connect(settings.database_url)
    async with locker.transaction():
        await locker.execute(LOCK_ALERTS_OF_TENANT, tenant)
        duplicate = alert_body(tenant, dedup_key="locked")
        waiting = [asyncio.create_task(bulk_create(client, duplicate)) for _ in range(30)]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        assert result_statuses(await bulk_create(client, alert_body(uuid4()))) == [201]
        assert time.monotonic() - started < 1
        await asyncio.gather(*waiting)
    await locker.close()


@pytest.fixture
async def faulty(empty_database: str, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose database fails to insert an alert in the way that its message names."""
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    await connection.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            CASE NEW.message
                WHEN 'check' THEN RAISE 'no' USING ERRCODE = 'check_violation';
                WHEN 'lock' THEN RAISE 'no' USING ERRCODE = 'lock_not_available';
                WHEN 'sleep' THEN PERFORM pg_sleep(3);
                WHEN 'terminate' THEN PERFORM pg_terminate_backend(pg_backend_pid());
                ELSE NULL;
            END CASE;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION fail()
        """
    )
    async with (
        open_database(empty_database, pool_size=3, pool_timeout=1, statement_timeout=0.5) as database,
        client_for(create_app(settings, database)) as client,
    ):
        yield client
    await connection.close()


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("check", {"status": 500, "error": {"error": "Internal server error", "detail": None}}),
        (
            "lock",
            {
                "status": 503,
                "error": {
                    "error": "Service unavailable",
                    "detail": "could not lock a row in time, because of concurrent changes",
                },
                "retry_after": 1,
            },
        ),
    ],
    ids=["constraint violation", "lock timeout"],
)
async def test_an_item_that_the_database_rejects_does_not_affect_the_other_items(
    faulty: httpx.AsyncClient, tenant: UUID, failure: str, expected: dict[str, Any]
) -> None:
    items = [alert_body(tenant, message=failure if n == 100 else "m") for n in range(300)]
    results = await bulk_create(faulty, *items)
    assert results.pop(100) == expected
    assert result_statuses(results) == [201] * 299
    assert (await faulty.get(f"/stats/{tenant}")).json()["total"] == 299


@pytest.mark.parametrize(
    ("failure", "status", "detail"),
    [("sleep", 503, "the statement timed out; the change may still have been made"), ("terminate", 500, None)],
    ids=["timeout", "lost connection"],
)
async def test_results_distinguish_created_unknown_and_skipped_items(
    faulty: httpx.AsyncClient, tenant: UUID, failure: str, status: int, detail: str | None
) -> None:
    """The second of four statements fails: its outcome is unknown. Only the items after it may be sent again."""
    items = [alert_body(tenant, message=failure if n == 300 else "m") for n in range(1000)]
    results = await bulk_create(faulty, *items)
    assert result_statuses(results) == [201] * 250 + [status] * 250 + [503] * 500
    assert [result["error"]["detail"] for result in results[250:500]] == [detail] * 250
    assert [index for index, result in enumerate(results) if "retry_after" in result] == list(range(500, 1000))
    stored = await faulty.get(f"/alerts?tenant_id={tenant}")
    assert {alert["id"] for alert in stored.json()} <= {result["alert"]["id"] for result in results[:250]}
    assert result_statuses(await bulk_create(faulty, alert_body(tenant))) == [201]


async def test_a_locked_alert_does_not_affect_the_transitions_of_other_alerts(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    ids = [(await create_alert(client, tenant))["id"] for _ in range(3)]
    locker = await asyncpg.connect(settings.database_url)
    async with locker.transaction():
        await locker.execute("SELECT FROM alerts WHERE id = $1 FOR UPDATE", UUID(ids[1]))
        results = (await bulk_transition(client, "resolve", ids=ids))["results"]
    await locker.close()
    assert result_statuses(results) == [200, 503, 200]
    assert results[1]["retry_after"] == 1


async def test_bulk_requests_use_at_most_two_connections(
    client: httpx.AsyncClient, app: AlertsApp, tenant: UUID
) -> None:
    """The other connections are free for single requests."""
    connections = app.state.database.connections
    items = [alert_body(tenant) for _ in range(1000)]
    requests = [asyncio.create_task(bulk_create(client, *items)) for _ in range(12)]
    max_used = 0
    while not all(request.done() for request in requests):
        await asyncio.sleep(0.001)
        max_used = max(max_used, connections.limit - connections.idle)
    assert [result_statuses(request.result()) for request in requests] == [[201] * 1000] * 12
    assert 0 < max_used <= 2
