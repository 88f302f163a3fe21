"""Deduplication while other requests create, escalate and transition the same alerts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.db.database import Database
from alerts_service.db.queries import load_queries
from alerts_service.db.statements import Row, Statement
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import alert_body, client_for, get_history, transition
from tests.support.database import open_database
from tests.support.deduplication import assert_consistent, post_alert

pytestmark = pytest.mark.anyio

LOCK_ALERT = "SELECT FROM alerts WHERE id = $1 FOR UPDATE"


@pytest.fixture
async def services(app: AlertsApp, settings: Settings) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two applications on one database, like two processes."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(str(settings.database_url), pool_size=5, pool_timeout=2, statement_timeout=5)
        )
        apps = (app, create_app(settings, database))
        yield [await stack.enter_async_context(client_for(each)) for each in apps]


async def test_concurrent_duplicates_create_one_alert(client: httpx.AsyncClient, tenant: UUID) -> None:
    responses = await asyncio.gather(*(post_alert(client, tenant, message=str(n)) for n in range(50)))
    assert sorted(response.status_code for response in responses) == [200] * 49 + [201]
    (alert,) = await assert_consistent(client, tenant)
    assert alert["occurrences"] == 50
    assert {response.json()["id"] for response in responses} == {alert["id"]}
    (created,) = (response.json() for response in responses if response.status_code == 201)
    assert (created["message"], created["created_at"]) == (alert["message"], alert["created_at"])
    notes = [event["note"] for event in await get_history(client, alert)]
    assert sorted([alert["message"], *notes[1:]]) == sorted(str(n) for n in range(50))


async def test_concurrent_duplicates_in_several_processes_create_one_alert_for_each_key(
    services: list[httpx.AsyncClient], tenant: UUID
) -> None:
    """Half of the clients send the keys in the opposite order, which must not cause a deadlock."""
    keys = [str(n) for n in range(8)]
    orders = [keys, keys[::-1]] * 10
    responses = await asyncio.gather(
        *(post_alert(client, tenant, key) for order in orders for client in services for key in order)
    )
    assert sorted(response.status_code for response in responses) == [200] * (len(responses) - 8) + [201] * 8
    alerts = await assert_consistent(services[0], tenant)
    assert [alert["occurrences"] for alert in alerts] == [len(responses) // 8] * 8


async def test_duplicates_lock_alerts_in_the_order_of_their_ids(
    settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """All statements use this order, which rules out deadlocks."""
    first_id, second_id = [UUID((await post_alert(client, tenant, key)).json()["id"]) for key in ("z", "a")]
    locker, connection = [await asyncpg.connect(settings.database_url) for _ in range(2)]
    parameters = (
        [uuid4(), uuid4()],
        [tenant] * 2,
        ["r"] * 2,
        ["m"] * 2,
        ["low"] * 2,
        ["a", "z"],
        ["anonymous"] * 2,
        [None] * 2,
    )

    async def create_duplicates() -> list[asyncpg.Record]:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = 0")
            return await connection.fetch(load_queries()["alerts/create_deduplicated"].sql, *parameters)

    async with locker.transaction():
        await locker.execute(LOCK_ALERT, first_id)
        duplicates = asyncio.create_task(create_duplicates())
        done, _ = await asyncio.wait([duplicates], timeout=0.5)
        assert not done
        await locker.execute(f"{LOCK_ALERT} NOWAIT", second_id)
    assert len(await duplicates) == 2
    await locker.close()
    await connection.close()


async def test_a_new_alert_begins_after_the_previous_alert_of_its_key_was_resolved(
    settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """The previous alert is resolved while the statement that creates the new alert waits for the lock of another."""
    locked, resolved = [(await post_alert(client, tenant, key)).json() for key in ("locked", "resolved")]
    locker, observer = [await asyncpg.connect(settings.database_url) for _ in range(2)]
    items = [alert_body(tenant, dedup_key=key) for key in ("locked", "resolved")]
    async with locker.transaction():
        await locker.execute(LOCK_ALERT, UUID(locked["id"]))
        locker_pid = await locker.fetchval("SELECT pg_backend_pid()")
        request = asyncio.create_task(client.post("/alerts/bulk", json={"alerts": items}))
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
        while not await observer.fetchval(blocked, locker_pid):
            assert not request.done()
        resolved = (await transition(client, resolved, "resolve")).json()
    results = (await request).json()["results"]
    assert [result["status"] for result in results] == [200, 201]
    created = results[1]["alert"]
    assert created["created_at"] > resolved["resolved_at"]
    events = (await client.get("/history", params={"tenant_id": str(tenant)})).json()
    types = [event["type"] for event in events if event["alert_id"] in {created["id"], resolved["id"]}]
    assert types == ["created", "resolved", "created"]
    assert {created[name] for name in ("created_at", "updated_at", "first_seen_at", "last_seen_at")} == {
        next(event["occurred_at"] for event in events if event["alert_id"] == created["id"])
    }
    await locker.close()
    await observer.close()


class InterruptedDatabase(Database):
    """A database that calls `interrupt` before a request fetches an alert that its statement did not change."""

    def __init__(self, database: Database, interrupt: Callable[[], Awaitable[object]]) -> None:
        self._database, self._interrupt = database, interrupt

    async def one_or_none(self, statement: Statement[Row], /, **arguments: object) -> Row | None:
        if statement.name == "alerts/get":
            await self._interrupt()
        return await self._database.one_or_none(statement, **arguments)


async def test_an_acknowledgment_is_retried_if_a_duplicate_has_triggered_the_alert_again(
    app: AlertsApp, settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """The alert is escalated between the failed transition and the query for the reason of the failure."""
    alert = (await post_alert(client, tenant, severity="low")).json()
    await transition(client, alert, "acknowledge", "on it")
    database = InterruptedDatabase(app.state.database, lambda: post_alert(client, tenant, severity="high"))
    async with client_for(create_app(settings, database)) as interrupted:
        response = await transition(interrupted, alert, "acknowledge", "me too")
    assert (response.status_code, response.json()["acknowledgment_note"]) == (200, "me too")
    await assert_consistent(client, tenant)


async def test_no_occurrence_is_lost_during_concurrent_transitions(
    services: list[httpx.AsyncClient], tenant: UUID
) -> None:
    keys = [str(n) for n in range(6)]
    severities = ("low", "medium", "high", "critical")
    created = 0
    for number_of_round in range(6):
        alerts = [(await post_alert(services[0], tenant, key, severity="low")).json() for key in keys]
        duplicates = [
            post_alert(client, tenant, key, severity=severities[(number + number_of_round) % 4])
            for number, client in enumerate(services * 3)
            for key in (keys, keys[::-1])[number % 2]
        ]
        verbs = ["acknowledge"] * 3 + ["resolve"] * (number_of_round % 2)
        transitions = [transition(client, alert, verb) for verb in verbs for client in services for alert in alerts]
        requests: list[Awaitable[httpx.Response]] = [*duplicates, *transitions]
        Random(number_of_round).shuffle(requests)
        responses = await asyncio.gather(*requests)
        assert {response.status_code for response in responses} <= {200, 201, 409}
        created += len(alerts) + len(duplicates)
    alerts = await assert_consistent(services[0], tenant)
    assert sum(alert["occurrences"] for alert in alerts) == created
    open_keys = [alert["dedup_key"] for alert in alerts if alert["status"] != "resolved"]
    assert len(open_keys) == len(set(open_keys))
