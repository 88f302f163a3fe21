"""What alerts went through, and that nobody can make it look otherwise."""

import asyncio
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from alerts_service.web.pagination import encode_event_cursor
from tests.support.api import SERVICE_KEY, assert_error, client_for, create_alert, get_history, get_pages, transition
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio

EVENTS = """
INSERT INTO alert_events (alert_id, sequence, tenant_id, type, from_status, to_status, actor, occurred_at)
SELECT $1, n, $2, CASE n % 2 WHEN 0 THEN 'repeated' ELSE 'escalated' END, 'triggered', 'triggered', 'anonymous',
    $3::timestamptz + n / 3 * interval '1 second'
FROM generate_series(2, $4) AS n
"""


async def test_a_whole_life(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Every change is an event, with all that is to be known of it, oldest first."""
    alert = await create_alert(client, tenant)
    acknowledged = (await transition(client, alert, "acknowledge", "on it")).json()
    resolved = (await transition(client, alert, "resolve", "done")).json()
    events = await get_history(client, alert)
    same = {"alert_id": alert["id"], "tenant_id": str(tenant), "actor": "anonymous"}
    told = [{key: value for key, value in event.items() if key not in {"id", "request_id"}} for event in events]
    assert told == [
        {
            **same,
            "sequence": 1,
            "type": "created",
            "from_status": None,
            "to_status": "triggered",
            "note": None,
            "occurred_at": alert["created_at"],
        },
        {
            **same,
            "sequence": 2,
            "type": "acknowledged",
            "from_status": "triggered",
            "to_status": "acknowledged",
            "note": "on it",
            "occurred_at": acknowledged["acknowledged_at"],
        },
        {
            **same,
            "sequence": 3,
            "type": "resolved",
            "from_status": "acknowledged",
            "to_status": "resolved",
            "note": "done",
            "occurred_at": resolved["resolved_at"],
        },
    ]
    assert len({UUID(event["id"]) for event in events}) == 3


async def test_resolved_at_once(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert that nobody acknowledged came from where it was."""
    alert = await create_alert(client, tenant)
    await transition(client, alert, "resolve")
    assert [
        (event["from_status"], event["to_status"], event["note"]) for event in await get_history(client, alert)
    ] == [
        (None, "triggered", None),
        ("triggered", "resolved", None),
    ]


async def test_what_changes_nothing_is_no_event(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A call that is repeated, or refused, leaves no trace."""
    alert = await create_alert(client, tenant)
    for note in ("on it", "on it", None, "another"):
        await transition(client, alert, "acknowledge", note)
    assert [event["type"] for event in await get_history(client, alert)] == ["created", "acknowledged"]


async def test_who_did_it(app: AlertsApp, settings: Settings, client: httpx.AsyncClient, tenant: UUID) -> None:
    """An event names the service that had the key, the token's subject, or nobody; and the request."""
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    headers = {"x-service-key": SERVICE_KEY, "x-request-id": "of-the-create"}
    alert = (await client.post("/internal/alerts", json=body, headers=headers)).json()
    guarded = create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)
    async with client_for(guarded) as bearing:
        somebody = {
            **bearer_header(sign_token("HS256", tenant, sub="ann@example.com")),
            "x-request-id": "of-the-acknowledgment",
        }
        await bearing.put(f"/alerts/{alert['id']}/acknowledge", headers=somebody)
        await bearing.put(f"/alerts/{alert['id']}/resolve", headers=bearer_header(sign_token("HS256", tenant)))
    told = [(event["actor"], event["request_id"]) for event in await get_history(client, alert)]
    assert told[:2] == [("service", "of-the-create"), ("token:ann@example.com", "of-the-acknowledgment")]
    assert told[2][0] == "token"


async def test_a_race(client: httpx.AsyncClient, tenant: UUID) -> None:
    """However many race to change an alert, its events are as many as its changes and their numbers have no gap."""
    alerts = [await create_alert(client, tenant) for _ in range(5)]
    calls = [transition(client, alert, verb) for alert in alerts for verb in ("acknowledge", "resolve") * 10]
    await asyncio.gather(*calls)
    for alert in alerts:
        events = await get_history(client, alert)
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert [event["type"] for event in events] in (
            ["created", "acknowledged", "resolved"],
            ["created", "resolved"],
        )
        assert all(event["from_status"] == before["to_status"] for before, event in pairwise(events))


@pytest.mark.parametrize(
    "rewriting",
    ["UPDATE alert_events SET actor = 'me' WHERE alert_id = $1", "DELETE FROM alert_events WHERE alert_id = $1"],
)
async def test_nobody_rewrites_it(client: httpx.AsyncClient, settings: Settings, tenant: UUID, rewriting: str) -> None:
    """The database refuses to change or to delete an event, whoever asks, until its alert is gone."""
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    with pytest.raises(asyncpg.RestrictViolationError, match="kept as it is"):
        await connection.execute(rewriting, UUID(alert["id"]))
    with pytest.raises(asyncpg.RestrictViolationError, match="kept as it is"):
        await connection.execute("TRUNCATE alert_events")
    assert len(await get_history(client, alert)) == 1
    await connection.execute("DELETE FROM alerts WHERE id = $1", UUID(alert["id"]))
    assert await connection.execute("DELETE FROM alert_events WHERE alert_id = $1", UUID(alert["id"])) == "DELETE 1"
    await connection.close()


@pytest.mark.parametrize("count", [50, 51, 120])
async def test_pages(client: httpx.AsyncClient, settings: Settings, tenant: UUID, count: int) -> None:
    """A long history comes in pages of 50, whole and in order, also where many events have the same time."""
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    created_at = msgspec.convert(alert["created_at"], datetime)
    await connection.execute(EVENTS, UUID(alert["id"]), tenant, created_at, count)
    await connection.close()
    for path in (f"/alerts/{alert['id']}/history", f"/history?tenant_id={tenant}"):
        found = await get_pages(client, path)
        assert [len(page) for page in found] == [50] * (count // 50) + [count % 50] * (count % 50 > 0)
        assert [event["sequence"] for page in found for event in page] == list(range(1, count + 1))


async def test_the_log_of_a_tenant(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A tenant's log holds the events of all its alerts and of no other's, and can be asked for a type or a time."""
    first, second = await create_alert(client, tenant), await create_alert(client, tenant)
    await create_alert(client, uuid4())
    await transition(client, first, "acknowledge")
    await transition(client, second, "resolve")

    async def log(**filters: str) -> list[tuple[str, str]]:
        response = await client.get("/history", params={"tenant_id": str(tenant), **filters})
        return [(event["alert_id"], event["type"]) for event in response.json()]

    whole = await log()
    assert whole == [
        (first["id"], "created"),
        (second["id"], "created"),
        (first["id"], "acknowledged"),
        (second["id"], "resolved"),
    ]
    assert await log(type="created") == whole[:2]
    assert await log(since=second["created_at"]) == whole[1:]
    assert await log(until=second["created_at"]) == whole[:1]
    assert await log(since=second["created_at"], type="resolved") == whole[3:]
    assert await log(since="2999-01-01T00:00:00Z") == []


async def test_pages_of_a_time(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """The pages behind a first one keep to what was asked for."""
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    created_at = msgspec.convert(alert["created_at"], datetime)
    await connection.execute(EVENTS, UUID(alert["id"]), tenant, created_at, 400)
    await connection.close()
    since, until = (created_at + timedelta(seconds=seconds) for seconds in (10, 110))
    url = httpx.URL(
        "/history", params={"tenant_id": str(tenant), "since": since.isoformat(), "until": until.isoformat()}
    )
    assert [event["sequence"] for page in await get_pages(client, str(url)) for event in page] == list(range(30, 330))
    assert [event["sequence"] for page in await get_pages(client, f"{url}&type=repeated") for event in page] == list(
        range(30, 330, 2)
    )


@pytest.mark.parametrize("query", ["since=2026-01-01", "since=2026-01-01T00:00:00", "until=x", "type=x", "cursor=x"])
async def test_wrong_filters(client: httpx.AsyncClient, tenant: UUID, query: str) -> None:
    """A time without its zone, an unknown type and a made-up cursor are refused by name."""
    response = await client.get(f"/history?tenant_id={tenant}&{query}")
    assert_error(response, 422, "Validation error", query.partition("=")[0] + ": ")


async def test_cursor_of_another_alert_is_rejected(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    cursor = encode_event_cursor(datetime.now(timezone.utc), uuid4(), 1)
    response = await client.get(f"/alerts/{alert['id']}/history?cursor={cursor}")
    assert_error(response, 422, "Validation error", "cursor: belongs to another alert")


async def test_no_alert_no_history(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An unknown alert, and another tenant's, have no history."""
    alert = await create_alert(client, tenant)
    for path in (f"/alerts/{uuid4()}/history", f"/alerts/{alert['id']}/history?tenant_id={uuid4()}"):
        assert_error(await client.get(path), 404, "Alert not found")
