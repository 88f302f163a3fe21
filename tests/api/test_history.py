"""The history of alerts: events of a tenant and of an alert, and their protection from changes."""

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
from tests.support.api import (
    SERVICE_KEY,
    alert_body,
    assert_error,
    client_for,
    create_alert,
    get_history,
    get_pages,
    transition,
)
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio

INSERT_EVENTS = """
INSERT INTO alert_events (alert_id, sequence, tenant_id, type, from_status, to_status, actor, occurred_at)
SELECT $1, n, $2, CASE n % 2 WHEN 0 THEN 'repeated' ELSE 'escalated' END, 'triggered', 'triggered', 'anonymous',
    $3::timestamptz + n / 3 * interval '1 second'
FROM generate_series(2, $4) AS n
"""


async def test_each_change_of_an_alert_is_an_event(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    acknowledged = (await transition(client, alert, "acknowledge", "on it")).json()
    resolved = (await transition(client, alert, "resolve", "done")).json()
    events = await get_history(client, alert)
    common = {"alert_id": alert["id"], "tenant_id": str(tenant), "actor": "anonymous"}
    assert [{key: value for key, value in event.items() if key not in {"id", "request_id"}} for event in events] == [
        {
            **common,
            "sequence": 1,
            "type": "created",
            "from_status": None,
            "to_status": "triggered",
            "note": None,
            "occurred_at": alert["created_at"],
        },
        {
            **common,
            "sequence": 2,
            "type": "acknowledged",
            "from_status": "triggered",
            "to_status": "acknowledged",
            "note": "on it",
            "occurred_at": acknowledged["acknowledged_at"],
        },
        {
            **common,
            "sequence": 3,
            "type": "resolved",
            "from_status": "acknowledged",
            "to_status": "resolved",
            "note": "done",
            "occurred_at": resolved["resolved_at"],
        },
    ]
    assert len({UUID(event["id"]) for event in events}) == 3


async def test_the_event_of_a_resolution_without_acknowledgment_comes_from_triggered(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    alert = await create_alert(client, tenant)
    await transition(client, alert, "resolve")
    assert [
        (event["from_status"], event["to_status"], event["note"]) for event in await get_history(client, alert)
    ] == [
        (None, "triggered", None),
        ("triggered", "resolved", None),
    ]


async def test_repeated_and_rejected_transitions_are_no_events(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    for note in ("on it", "on it", None, "another"):
        await transition(client, alert, "acknowledge", note)
    assert [event["type"] for event in await get_history(client, alert)] == ["created", "acknowledged"]


async def test_events_name_the_actor_and_the_request(
    app: AlertsApp, settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """The actor is the service if the request has the service key, else the token and its subject, if it has one."""
    headers = {"x-service-key": SERVICE_KEY, "x-request-id": "create-request"}
    alert = (await client.post("/internal/alerts", json=alert_body(tenant), headers=headers)).json()
    app_with_tokens = create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)
    async with client_for(app_with_tokens) as client_with_tokens:
        headers = bearer_header(sign_token("HS256", tenant, sub="ann@example.com"))
        headers["x-request-id"] = "acknowledge-request"
        await client_with_tokens.put(f"/alerts/{alert['id']}/acknowledge", headers=headers)
        headers = bearer_header(sign_token("HS256", tenant))
        await client_with_tokens.put(f"/alerts/{alert['id']}/resolve", headers=headers)
    actors = [(event["actor"], event["request_id"]) for event in await get_history(client, alert)]
    assert actors[:2] == [("service", "create-request"), ("token:ann@example.com", "acknowledge-request")]
    assert actors[2][0] == "token"


async def test_concurrent_transitions_leave_one_event_for_each_change(client: httpx.AsyncClient, tenant: UUID) -> None:
    alerts = [await create_alert(client, tenant) for _ in range(5)]
    await asyncio.gather(
        *(transition(client, alert, verb) for alert in alerts for verb in ("acknowledge", "resolve") * 10)
    )
    for alert in alerts:
        events = await get_history(client, alert)
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert [event["type"] for event in events] in (
            ["created", "acknowledged", "resolved"],
            ["created", "resolved"],
        )
        assert all(event["from_status"] == previous["to_status"] for previous, event in pairwise(events))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE alert_events SET actor = 'me' WHERE alert_id = $1", "DELETE FROM alert_events WHERE alert_id = $1"],
    ids=["update", "delete"],
)
async def test_events_cannot_be_changed_or_deleted_while_their_alert_exists(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID, statement: str
) -> None:
    """The database rejects the statements of a superuser too."""
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    with pytest.raises(asyncpg.RestrictViolationError, match="kept as it is"):
        await connection.execute(statement, UUID(alert["id"]))
    with pytest.raises(asyncpg.RestrictViolationError, match="kept as it is"):
        await connection.execute("TRUNCATE alert_events")
    assert len(await get_history(client, alert)) == 1
    await connection.execute("DELETE FROM alerts WHERE id = $1", UUID(alert["id"]))
    assert await connection.execute("DELETE FROM alert_events WHERE alert_id = $1", UUID(alert["id"])) == "DELETE 1"
    await connection.close()


@pytest.mark.parametrize("count", [50, 51, 120])
async def test_a_history_has_ordered_pages_of_50_events(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID, count: int
) -> None:
    """Three events each have the same time."""
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    created_at = msgspec.convert(alert["created_at"], datetime)
    await connection.execute(INSERT_EVENTS, UUID(alert["id"]), tenant, created_at, count)
    await connection.close()
    for path in (f"/alerts/{alert['id']}/history", f"/history?tenant_id={tenant}"):
        pages = await get_pages(client, path)
        assert [len(page) for page in pages] == [50] * (count // 50) + [count % 50] * (count % 50 > 0)
        assert [event["sequence"] for page in pages for event in page] == list(range(1, count + 1))


async def test_the_events_of_a_tenant_can_be_filtered_by_type_and_time(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The events of all alerts of the tenant are included, and none of other tenants."""
    first, second = await create_alert(client, tenant), await create_alert(client, tenant)
    await create_alert(client, uuid4())
    await transition(client, first, "acknowledge")
    await transition(client, second, "resolve")

    async def list_events(**filters: str) -> list[tuple[str, str]]:
        response = await client.get("/history", params={"tenant_id": str(tenant), **filters})
        return [(event["alert_id"], event["type"]) for event in response.json()]

    events = await list_events()
    assert events == [
        (first["id"], "created"),
        (second["id"], "created"),
        (first["id"], "acknowledged"),
        (second["id"], "resolved"),
    ]
    assert await list_events(type="created") == events[:2]
    assert await list_events(since=second["created_at"]) == events[1:]
    assert await list_events(until=second["created_at"]) == events[:1]
    assert await list_events(since=second["created_at"], type="resolved") == events[3:]
    assert await list_events(since="2999-01-01T00:00:00Z") == []


async def test_further_pages_keep_the_filters(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    created_at = msgspec.convert(alert["created_at"], datetime)
    await connection.execute(INSERT_EVENTS, UUID(alert["id"]), tenant, created_at, 400)
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
async def test_an_invalid_filter_is_rejected_by_its_name(client: httpx.AsyncClient, tenant: UUID, query: str) -> None:
    response = await client.get(f"/history?tenant_id={tenant}&{query}")
    assert_error(response, 422, "Validation error", query.partition("=")[0] + ": ")


async def test_cursor_of_another_alert_is_rejected(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    cursor = encode_event_cursor(datetime.now(timezone.utc), uuid4(), 1)
    response = await client.get(f"/alerts/{alert['id']}/history?cursor={cursor}")
    assert_error(response, 422, "Validation error", "cursor: belongs to another alert")


async def test_the_history_of_an_unknown_alert_is_404(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert of another tenant is unknown."""
    alert = await create_alert(client, tenant)
    for path in (f"/alerts/{uuid4()}/history", f"/alerts/{alert['id']}/history?tenant_id={uuid4()}"):
        assert_error(await client.get(path), 404, "Alert not found")
