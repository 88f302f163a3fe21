"""Alerts that say what they are about, and are kept once as long as that is open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.db.database import Database, Statement
from alerts_service.db.queries import load_queries
from alerts_service.db.statements import Row
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import (
    ALERT_KEYS,
    SERVICE_KEY,
    assert_error,
    client_for,
    create_alert,
    get_history,
    get_pages,
    transition,
)
from tests.support.database import open_database

pytestmark = pytest.mark.anyio

REPEATS = ["dedup_key", "occurrences", "first_seen_at", "last_seen_at"]


async def report(client: httpx.AsyncClient, tenant: UUID, key: str | None = "k", **fields: object) -> httpx.Response:
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m", "dedup_key": key, **fields}
    return await client.post("/alerts", json=body)


async def listed(client: httpx.AsyncClient, tenant: UUID, **filters: str) -> list[dict[str, Any]]:
    response = await client.get("/alerts", params={"tenant_id": str(tenant), **filters})
    alerts: list[dict[str, Any]] = response.json()
    return alerts


async def told(client: httpx.AsyncClient, alert: dict[str, Any]) -> list[tuple[str, str | None, str, str | None]]:
    events = await get_history(client, alert)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return [(event["type"], event["from_status"], event["to_status"], event["note"]) for event in events]


async def assert_consistent(client: httpx.AsyncClient, tenant: UUID) -> list[dict[str, Any]]:
    """Each alert's events fit it and each other, and the counts agree with the alerts."""
    alerts = await listed(client, tenant)
    for alert in alerts:
        events = [event for page in await get_pages(client, f"/alerts/{alert['id']}/history") for event in page]
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert [event["type"] for event in events].count("created") == 1
        assert all(event["from_status"] == before["to_status"] for before, event in pairwise(events))
        assert events[-1]["to_status"] == alert["status"]
        reports = [event for event in events if event["type"] in {"created", "repeated", "escalated"}]
        assert alert.get("occurrences", 1) == len(reports)
    statuses = [alert["status"] for alert in alerts]
    counts = (await client.get(f"/stats/{tenant}")).json()
    assert counts == {
        "total": len(alerts),
        **{status: statuses.count(status) for status in ("triggered", "acknowledged", "resolved")},
    }
    return alerts


async def test_a_repeat(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A repeat is answered with 200 and the first one's alert, with an occurrence more, a later time and its tag."""
    first = await report(client, tenant, message="one", rule_name="first")
    second = await report(client, tenant, message="two", rule_name="second")
    assert (first.status_code, second.status_code) == (201, 200)
    new, merged = first.json(), second.json()
    assert list(new) == list(merged) == ALERT_KEYS + REPEATS
    assert new["occurrences"] == 1
    assert new["first_seen_at"] == new["last_seen_at"] == new["created_at"] == new["updated_at"]
    assert merged["updated_at"] == merged["last_seen_at"] > new["last_seen_at"]
    moved = {"occurrences": 2, "updated_at": merged["updated_at"], "last_seen_at": merged["last_seen_at"]}
    assert merged == {**new, **moved}
    assert [answer.headers["etag"] for answer in (first, second)] == [
        f'"{alert["updated_at"]}"' for alert in (new, merged)
    ]
    assert await told(client, new) == [
        ("created", None, "triggered", None),
        ("repeated", "triggered", "triggered", "two"),
    ]


async def test_the_same_keys_wherever_it_is_answered(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert with a key reads the same wherever it is answered, to the byte, and one without has its twelve keys."""
    plain = await create_alert(client, tenant)
    key = 'missed "call"\\ é💥,"dedup_key":null}]'
    keyed = await report(client, tenant, key)
    last = await report(client, tenant, None)
    got = await client.get(f"/alerts/{keyed.json()['id']}")
    assert got.content == keyed.content
    page = await client.get("/alerts", params={"tenant_id": str(tenant)})
    assert [list(alert) for alert in page.json()] == [ALERT_KEYS, ALERT_KEYS + REPEATS, ALERT_KEYS]
    first = await client.get(f"/alerts/{plain['id']}")
    assert page.content == b"[" + b",".join((last.content, keyed.content, first.content)) + b"]"
    for filters in ({"status": "triggered"}, {"severity": "medium"}):
        assert (await listed(client, tenant, **filters)) == page.json()
    for verb in ("acknowledge", "resolve"):
        moved = await transition(client, keyed.json(), verb)
        assert list(moved.json()) == ALERT_KEYS + REPEATS
        assert [moved.json()[name] for name in REPEATS] == [keyed.json()[name] for name in REPEATS]
        assert list((await transition(client, plain, verb)).json()) == ALERT_KEYS
    assert [list(alert) for alert in await listed(client, tenant)] == [ALERT_KEYS, ALERT_KEYS + REPEATS, ALERT_KEYS]


@pytest.mark.parametrize("count", [50, 51, 101])
async def test_pages_of_alerts_with_keys(client: httpx.AsyncClient, tenant: UUID, count: int) -> None:
    """Pages hold each alert as it is answered alone, with a key or without, and none twice."""
    made = [(await report(client, tenant, str(n) if n % 3 else None)).json() for n in range(count)]
    found = await get_pages(client, f"/alerts?tenant_id={tenant}")
    assert [alert for page in found for alert in page] == made[::-1]


async def test_fifty_at_once(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Of fifty parallel posts one is new and the others are its repeats: one alert, 50 occurrences, 50 events."""
    answers = await asyncio.gather(*(report(client, tenant, message=str(n)) for n in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    (alert,) = await assert_consistent(client, tenant)
    assert alert["occurrences"] == 50
    assert {answer.json()["id"] for answer in answers} == {alert["id"]}
    (new,) = (answer.json() for answer in answers if answer.status_code == 201)
    assert (new["message"], new["created_at"]) == (alert["message"], alert["created_at"])
    notes = [event["note"] for event in await get_history(client, alert)]
    assert sorted([alert["message"], *notes[1:]]) == sorted(str(n) for n in range(50))


@pytest.fixture
async def services(app: AlertsApp, settings: Settings) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two services on one database, as two processes would be."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(
            open_database(str(settings.database_url), pool_size=5, pool_timeout=2, statement_timeout=5)
        )
        yield [await stack.enter_async_context(client_for(each)) for each in (app, create_app(settings, other))]


async def test_several_services_at_once(services: list[httpx.AsyncClient], tenant: UUID) -> None:
    """It is the database that keeps them one: whichever service, and in whatever order keys come, no post fails."""
    keys = [str(n) for n in range(8)]
    orders = [keys, keys[::-1]] * 10
    answers = await asyncio.gather(
        *(report(client, tenant, key) for order in orders for client in services for key in order)
    )
    assert sorted(answer.status_code for answer in answers) == [200] * (len(answers) - 8) + [201] * 8
    alerts = await assert_consistent(services[0], tenant)
    assert [alert["occurrences"] for alert in alerts] == [len(answers) // 8] * 8


async def test_one_statement_with_many_of_a_key(settings: Settings, client: httpx.AsyncClient, tenant: UUID) -> None:
    """Reports that leave together are told apart as if they came one after the other, and get the alert in the end."""
    other = uuid4()
    old = (await report(client, other, severity="medium")).json()
    await transition(client, old, "acknowledge", "on it")
    severities = ["low", "low", "high", "medium", "high", "critical"]
    rows = [(uuid4(), owner, severity) for severity in severities for owner in (tenant, other)]
    ids, owners, said = zip(*rows, strict=True)
    notes = [f"{number}" for number in range(12)]
    connection = await asyncpg.connect(settings.database_url)
    answers = await connection.fetch(
        load_queries()["alerts/create_deduplicated"].sql,
        *(ids, owners, ["r"] * 12, notes, said, ["k"] * 12, ["anonymous"] * 12, [None] * 12),
    )
    await connection.close()
    assert sorted(row["batch_index"] for row in answers) == list(range(1, 13))
    for owner, occurrences in ((tenant, 6), (other, 7)):
        (alert,) = await assert_consistent(client, owner)
        mine = [tuple(row.values())[1:] for row in answers if row["tenant_id"] == owner]
        assert mine == [tuple(convert_ids(alert).values())] * 6
        assert (alert["severity"], alert["status"], alert["occurrences"]) == ("critical", "triggered", occurrences)
    (new,) = await listed(client, tenant)
    assert (new["id"], new["message"]) == (str(ids[0]), "0")
    assert await told(client, new) == [
        ("created", None, "triggered", None),
        ("repeated", "triggered", "triggered", "2"),
        ("escalated", "triggered", "triggered", "4"),
        ("repeated", "triggered", "triggered", "6"),
        ("repeated", "triggered", "triggered", "8"),
        ("escalated", "triggered", "triggered", "10"),
    ]
    assert (await told(client, old))[2:] == [
        ("repeated", "acknowledged", "acknowledged", "1"),
        ("repeated", "acknowledged", "acknowledged", "3"),
        ("escalated", "acknowledged", "triggered", "5"),
        ("repeated", "triggered", "triggered", "7"),
        ("repeated", "triggered", "triggered", "9"),
        ("escalated", "triggered", "triggered", "11"),
    ]


def convert_ids(alert: dict[str, Any]) -> dict[str, Any]:
    return {**alert, "id": UUID(alert["id"]), "tenant_id": UUID(alert["tenant_id"])}


async def test_the_severity_never_falls(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A repeat raises the severity or leaves it, and the history tells which."""
    said = ("medium", "low", "high", "high", "medium", "critical", "low")
    seen = [(await report(client, tenant, severity=severity)).json() for severity in said]
    assert [alert["severity"] for alert in seen] == [*["medium"] * 2, *["high"] * 3, *["critical"] * 2]
    assert [event[0] for event in await told(client, seen[0])] == [
        *("created", "repeated", "escalated", "repeated", "repeated", "escalated", "repeated")
    ]
    assert (await listed(client, tenant, severity="critical")) == seen[-1:]
    assert (await listed(client, tenant, severity="medium")) == []


async def test_an_acknowledgment_stays(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A repeat of no higher severity leaves an acknowledged alert acknowledged, with its note."""
    alert = (await report(client, tenant, severity="high")).json()
    acknowledged = (await transition(client, alert, "acknowledge", "on it")).json()
    assert acknowledged["occurrences"] == 1
    for severity in ("high", "low"):
        repeated = (await report(client, tenant, severity=severity)).json()
        assert repeated["status"] == "acknowledged"
        for name in ("severity", "acknowledged_at", "acknowledgment_note"):
            assert repeated[name] == acknowledged[name]
    await assert_consistent(client, tenant)


async def test_a_higher_severity_undoes_an_acknowledgment(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A repeat of a higher severity triggers an acknowledged alert again, and it can be acknowledged once more."""
    alert = (await report(client, tenant, severity="low")).json()
    await transition(client, alert, "acknowledge", "on it")
    risen = (await report(client, tenant, severity="high", message="worse")).json()
    assert (risen["status"], risen["acknowledged_at"], risen["acknowledgment_note"]) == ("triggered", None, None)
    assert (risen["severity"], risen["message"], risen["occurrences"]) == ("high", "m", 2)
    await assert_consistent(client, tenant)
    assert (await transition(client, alert, "acknowledge", "on it again")).status_code == 200
    assert (await transition(client, alert, "resolve")).status_code == 200
    assert await told(client, alert) == [
        ("created", None, "triggered", None),
        ("acknowledged", "triggered", "acknowledged", "on it"),
        ("escalated", "acknowledged", "triggered", "worse"),
        ("acknowledged", "triggered", "acknowledged", "on it again"),
        ("resolved", "acknowledged", "resolved", None),
    ]
    await assert_consistent(client, tenant)


async def test_a_resolved_alert_frees_its_key(client: httpx.AsyncClient, tenant: UUID) -> None:
    """After it is resolved an alert stays as it is, and the next report with its key is a new one."""
    first = (await report(client, tenant)).json()
    resolved = (await transition(client, first, "resolve")).json()
    again = await report(client, tenant)
    assert again.status_code == 201
    assert again.json()["id"] != first["id"]
    assert again.json()["occurrences"] == 1
    assert await assert_consistent(client, tenant) == [again.json(), resolved]


@pytest.mark.parametrize(("one", "other"), [("key", "Key"), ("key", "key "), ("é", "e\u0301"), ("%", "_")])
async def test_different_keys(client: httpx.AsyncClient, tenant: UUID, one: str, other: str) -> None:
    """Keys that differ at all, in case for one, are different."""
    answers = [await report(client, tenant, key) for key in (one, other, one)]
    assert [answer.status_code for answer in answers] == [201, 201, 200]
    assert [answer.json()["dedup_key"] for answer in answers] == [one, other, one]


async def test_a_key_is_a_tenants(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The same key of another tenant is another key."""
    assert (await report(client, tenant)).status_code == (await report(client, uuid4())).status_code == 201


async def test_without_a_key_nothing_is_merged(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Alerts without a key are all new, however alike, whether it is left out or null."""
    answers = [await report(client, tenant, None), await report(client, tenant, None)]
    answers.append(await client.post("/alerts", json={"tenant_id": str(tenant), "rule_name": "r", "message": "m"}))
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len(await listed(client, tenant)) == 3


async def test_a_service_and_a_person_report_the_same(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The internal route merges as the public one does, and the history tells who reported."""
    first = (await report(client, tenant)).json()
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m", "dedup_key": "k"}
    headers = {"x-service-key": SERVICE_KEY, "x-request-id": "of-the-service"}
    second = await client.post("/internal/alerts", json=body, headers=headers)
    assert (second.status_code, second.json()["id"], second.json()["occurrences"]) == (200, first["id"], 2)
    event = (await get_history(client, first))[1]
    assert (event["actor"], event["request_id"]) == ("service", "of-the-service")


@pytest.mark.parametrize("key", ["", "x" * 256, "\0", "a\0b", 5, ["k"]])
async def test_a_bad_key(client: httpx.AsyncClient, tenant: UUID, key: Any) -> None:
    """A key that is empty, too long, no text or holds NUL is refused by name, and nothing is recorded."""
    assert_error(await report(client, tenant, key), 422, "Validation error", "dedup_key: ")
    assert await listed(client, tenant) == []


@pytest.mark.parametrize("key", ["x", "é" * 255, "💥" * 255])
async def test_a_key_at_the_limits(client: httpx.AsyncClient, tenant: UUID, key: str) -> None:
    """A key has up to 255 characters of any kind."""
    assert [(await report(client, tenant, key)).status_code for _ in range(2)] == [201, 200]


async def test_a_tag_from_before_a_repeat(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Who saw an alert before its last repeat does not change it under If-Match."""
    first = await report(client, tenant)
    second = await report(client, tenant)
    path = f"/alerts/{first.json()['id']}/acknowledge"
    refused = await client.put(path, headers={"If-Match": first.headers["etag"]})
    assert_error(refused, 412, "Precondition failed", second.json()["updated_at"])
    assert (await client.put(path, headers={"If-Match": second.headers["etag"]})).status_code == 200


async def test_the_order_of_locks(settings: Settings, client: httpx.AsyncClient, tenant: UUID) -> None:
    """Repeats lock alerts in the order of their ids, as all changes do, so that they wait and never in a circle."""
    earlier, later = [UUID((await report(client, tenant, key)).json()["id"]) for key in ("z", "a")]
    lock = "SELECT FROM alerts WHERE id = $1 FOR UPDATE"
    other, connection = [await asyncpg.connect(settings.database_url) for _ in range(2)]
    ask = (
        [uuid4(), uuid4()],
        [tenant] * 2,
        ["r"] * 2,
        ["m"] * 2,
        ["low"] * 2,
        ["a", "z"],
        ["anonymous"] * 2,
        [None] * 2,
    )

    async def repeat() -> list[asyncpg.Record]:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = 0")
            return await connection.fetch(load_queries()["alerts/create_deduplicated"].sql, *ask)

    async with other.transaction():
        await other.execute(lock, earlier)
        repeats = asyncio.create_task(repeat())
        done, _ = await asyncio.wait([repeats], timeout=0.5)
        assert not done
        await other.execute(f"{lock} NOWAIT", later)
    assert len(await repeats) == 2
    await other.close()
    await connection.close()


async def test_a_new_alert_begins_after_the_end_of_the_one_before(
    settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """While a list waits for one alert the next one is resolved: the new alert of its key begins after that."""
    held, resolved = [(await report(client, tenant, dedup_key=key)).json() for key in ("held", "resolved")]
    holder, observer = [await asyncpg.connect(settings.database_url) for _ in range(2)]
    items = [
        {"tenant_id": str(tenant), "rule_name": "r", "message": "m", "dedup_key": key} for key in ("held", "resolved")
    ]
    async with holder.transaction():
        await holder.execute("SELECT FROM alerts WHERE id = $1 FOR UPDATE", UUID(held["id"]))
        blocker = await holder.fetchval("SELECT pg_backend_pid()")
        waiting = asyncio.create_task(client.post("/alerts/bulk", json={"alerts": items}))
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
        while not await observer.fetchval(blocked, blocker):
            assert not waiting.done()
        resolved = (await transition(client, resolved, "resolve")).json()
    results = (await waiting).json()["results"]
    assert [result["status"] for result in results] == [200, 201]
    created = results[1]["alert"]
    assert created["created_at"] > resolved["resolved_at"]
    events = (await client.get("/history", params={"tenant_id": str(tenant)})).json()
    of_key = [event["type"] for event in events if event["alert_id"] in {created["id"], resolved["id"]}]
    assert of_key == ["created", "resolved", "created"]
    assert {created[name] for name in ("created_at", "updated_at", "first_seen_at", "last_seen_at")} == {
        next(event["occurred_at"] for event in events if event["alert_id"] == created["id"])
    }
    await holder.close()
    await observer.close()


class Meanwhile(Database):
    """A database where something happens between a change that was refused and the look at why."""

    def __init__(self, database: Database, happens: Callable[[], Awaitable[object]]) -> None:
        self.database, self.happens = database, happens

    async def one_or_none(self, statement: Statement[Row], /, **arguments: object) -> Row | None:
        if statement.name == "alerts/get":
            await self.happens()
        return await self.database.one_or_none(statement, **arguments)


async def test_triggered_again_meanwhile(
    app: AlertsApp, settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """An acknowledgment that came too late, and then too early, is made: a triggered alert is no conflict."""
    alert = (await report(client, tenant, severity="low")).json()
    await transition(client, alert, "acknowledge", "on it")
    worse = create_app(settings, Meanwhile(app.state.database, lambda: report(client, tenant, severity="high")))
    async with client_for(worse) as late:
        answer = await transition(late, alert, "acknowledge", "me too")
    assert (answer.status_code, answer.json()["acknowledgment_note"]) == (200, "me too")
    await assert_consistent(client, tenant)


async def test_repeats_race_with_changes(services: list[httpx.AsyncClient], tenant: UUID) -> None:
    """Whoever reports, acknowledges and resolves at once, nobody fails and no report is lost."""
    keys = [str(n) for n in range(6)]
    reported = 0
    for turn in range(6):
        alerts = [(await report(services[0], tenant, key, severity="low")).json() for key in keys]
        severities = ("low", "medium", "high", "critical")
        reports = [
            report(client, tenant, key, severity=severities[(number + turn) % 4])
            for number, client in enumerate(services * 3)
            for key in (keys, keys[::-1])[number % 2]
        ]
        verbs = ["acknowledge"] * 3 + ["resolve"] * (turn % 2)
        moves = [transition(client, alert, verb) for verb in verbs for client in services for alert in alerts]
        shuffled: list[Awaitable[httpx.Response]] = [*reports, *moves]
        Random(turn).shuffle(shuffled)
        answers = await asyncio.gather(*shuffled)
        assert {answer.status_code for answer in answers} <= {200, 201, 409}
        reported += len(alerts) + len(reports)
    found = await assert_consistent(services[0], tenant)
    assert sum(alert["occurrences"] for alert in found) == reported
    assert sorted(alert["dedup_key"] for alert in found if alert["status"] != "resolved") == sorted(
        {alert["dedup_key"] for alert in found if alert["status"] != "resolved"}
    )
