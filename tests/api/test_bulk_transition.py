"""Status transitions of many alerts in one request, by ids or by a filter."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, alert_body, assert_error, create_alert, transition
from tests.support.bulk import BULK_TRANSITION_ROUTES, bulk_create, bulk_transition, result_statuses

pytestmark = pytest.mark.anyio

ANY_ID = str(UUID(int=0))


async def test_each_id_has_the_result_of_a_request_for_it_alone(client: httpx.AsyncClient, tenant: UUID) -> None:
    triggered, acknowledged, acknowledged_by_other, resolved = [await create_alert(client, tenant) for _ in range(4)]
    await transition(client, acknowledged, "acknowledge", "on it")
    await transition(client, acknowledged_by_other, "acknowledge", "mine")
    await transition(client, resolved, "resolve")
    unknown = {"id": str(uuid4())}
    alerts = [
        *(resolved, triggered, {"id": "x"}, {"id": 5}),
        *(acknowledged, unknown, acknowledged_by_other, triggered),
    ]
    ids = [alert["id"] for alert in alerts]
    results = (await bulk_transition(client, "acknowledge", ids=ids, note="on it"))["results"]
    assert result_statuses(results) == [409, 200, 422, 422, 200, 404, 409, 200]
    assert results[1]["alert"] == results[7]["alert"] == (await client.get(f"/alerts/{triggered['id']}")).json()
    assert results[1]["alert"]["acknowledgment_note"] == "on it"
    assert results[2]["error"] == {"error": "Validation error", "detail": "id: must be a UUID"}
    for index in (0, 5, 6):
        assert results[index]["error"] == (await transition(client, alerts[index], "acknowledge", "on it")).json()


async def test_a_repeated_id_is_changed_once(
    client: httpx.AsyncClient, app: AlertsApp, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await create_alert(client, tenant) for _ in range(2)]
    ids = [first["id"], second["id"], first["id"].upper(), first["id"]]
    statements = []

    async def many(statement: Any, items: Any, *args: Any, **options: Any) -> Any:
        statements.append((statement.name, len(items)))
        return await original(statement, items, *args, **options)

    original = app.state.database.many
    monkeypatch.setattr(app.state.database, "many", many)
    results = (await bulk_transition(client, "resolve", ids=ids, note="x"))["results"]
    assert statements == [("alerts/resolve", 2), ("alerts/get", 0)]
    assert [result["alert"]["id"] for result in results] == [first["id"], second["id"], first["id"], first["id"]]
    assert results[0] == results[2] == results[3]
    events = (await client.get(f"/alerts/{first['id']}/history")).json()
    assert [event["type"] for event in events] == ["created", "resolved"]


async def test_an_alert_of_another_tenant_is_unknown(client: httpx.AsyncClient, tenant: UUID) -> None:
    """`tenant_id` in the query limits the request to one tenant."""
    own, foreign = await create_alert(client, tenant), await create_alert(client, uuid4())
    for verb in ("acknowledge", "resolve"):
        ids = [own["id"], foreign["id"], str(uuid4())]
        results = (await bulk_transition(client, verb, f"?tenant_id={tenant}", ids=ids))["results"]
        assert results[0]["status"] == 200
        assert results[1] == results[2] == {"status": 404, "error": {"error": "Alert not found", "detail": None}}
    assert (await client.get(f"/alerts/{foreign['id']}")).json() == foreign


async def test_a_filter_selects_the_alerts_of_a_tenant_that_can_be_changed_oldest_first(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    kinds = [("r", "low"), ("r", "high"), ("s", "high"), ("r", "high"), ("r", "high")]
    alerts = [await create_alert(client, tenant, rule_name=rule, severity=severity) for rule, severity in kinds]
    ids = [alert["id"] for alert in alerts]
    await create_alert(client, uuid4(), rule_name="r", severity="high")
    await transition(client, alerts[4], "resolve")
    filter_ = {"tenant_id": str(tenant), "rule_name": "r", "severity": "high"}
    body = await bulk_transition(client, "acknowledge", filter=filter_, note="all")
    assert [result["alert"]["id"] for result in body["results"]] == [ids[1], ids[3]]
    assert body["more"] is False
    assert {result["alert"]["acknowledgment_note"] for result in body["results"]} == {"all"}
    assert (await bulk_transition(client, "acknowledge", filter=filter_))["results"] == []
    filter_ = {"tenant_id": str(tenant), "status": "acknowledged", "created_after": alerts[3]["created_at"]}
    body = await bulk_transition(client, "resolve", filter=filter_)
    assert [result["alert"]["id"] for result in body["results"]] == [ids[3]]
    filter_ = {"tenant_id": str(tenant), "created_before": alerts[2]["created_at"]}
    body = await bulk_transition(client, "resolve", filter=filter_)
    assert [result["alert"]["id"] for result in body["results"]] == [ids[0], ids[1]]
    triggered = (await client.get(f"/alerts?tenant_id={tenant}&status=triggered")).json()
    assert [alert["id"] for alert in triggered] == [ids[2]]


async def test_a_dry_run_returns_the_alerts_unchanged(client: httpx.AsyncClient, tenant: UUID) -> None:
    alerts = [await create_alert(client, tenant) for _ in range(3)]
    for selection in ({"filter": {"tenant_id": str(tenant)}}, {"ids": [alert["id"] for alert in alerts]}):
        body = await bulk_transition(client, "resolve", **selection, dry_run=True, note="x")
        assert [result["alert"] for result in body["results"]] == alerts
        assert (await client.get(f"/stats/{tenant}")).json()["triggered"] == 3


async def test_a_dry_run_returns_the_statuses_of_the_transition(client: httpx.AsyncClient, tenant: UUID) -> None:
    ids = [(await create_alert(client, tenant))["id"] for _ in range(3)]
    await bulk_transition(client, "acknowledge", ids=ids[:2], note="a")
    await bulk_transition(client, "resolve", ids=ids[:1])
    for verb, note in (("acknowledge", "a"), ("acknowledge", "b"), ("resolve", None), ("resolve", "b")):
        request: dict[str, Any] = {"ids": [*ids[:2], str(uuid4()), "x"], "note": note}
        dry_run = await bulk_transition(client, verb, **request, dry_run=True)
        expected = {
            ("acknowledge", "a"): [409, 200, 404, 422],
            ("acknowledge", "b"): [409, 409, 404, 422],
            ("resolve", None): [200, 200, 404, 422],
            ("resolve", "b"): [409, 200, 404, 422],
        }[verb, note]
        assert result_statuses(dry_run["results"]) == expected
        if verb == "acknowledge":
            assert result_statuses((await bulk_transition(client, verb, **request))["results"]) == expected


async def test_if_match_is_rejected(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An entity tag belongs to one alert."""
    alert = await create_alert(client, tenant)
    response = await client.post("/alerts/bulk/resolve", json={"ids": [alert["id"]]}, headers={"If-Match": '"x"'})
    assert_error(response, 422, "Validation error", "If-Match: not supported on bulk requests")
    assert (await client.get(f"/stats/{tenant}")).json()["triggered"] == 1


async def test_a_filter_changes_the_oldest_thousand_and_reports_more(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The next request changes the rest."""
    await bulk_create(client, *(alert_body(tenant, message="old") for _ in range(1000)))
    newer = await create_alert(client, tenant, message="new")
    body = await bulk_transition(client, "resolve", filter={"tenant_id": str(tenant)})
    assert result_statuses(body["results"]) == [200] * 1000
    assert body["more"] is True
    assert {result["alert"]["message"] for result in body["results"]} == {"old"}
    body = await bulk_transition(client, "resolve", filter={"tenant_id": str(tenant)})
    assert [result["alert"]["id"] for result in body["results"]] == [newer["id"]]
    assert body["more"] is False


@pytest.mark.parametrize("route", BULK_TRANSITION_ROUTES)
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"note": "x"}, "body: must have exactly one of ids and filter"),
        ({"ids": [ANY_ID], "filter": {"tenant_id": ANY_ID}}, "body: must have exactly one of"),
        ({"filter": {}}, "filter.tenant_id: required"),
        ({"filter": {"tenant_id": ANY_ID, "created_after": "2026-01-01T00:00:00"}}, "filter.created_after: "),
        ({"filter": {"tenant_id": ANY_ID, "status": "open"}}, "filter.status: "),
        ({"filter": {"tenant_id": ANY_ID, "rule_name": "\0"}}, "filter.rule_name: "),
        ({"ids": ["x"], "note": "\0"}, "note: must not contain the NUL character"),
        ({"ids": ["x"], "dry_run": "yes"}, "dry_run: "),
    ],
    ids=[
        "neither ids nor filter",
        "ids and filter",
        "filter without tenant_id",
        "created_after without offset",
        "status",
        "NUL in rule_name",
        "NUL in note",
        "dry_run",
    ],
)
async def test_an_invalid_body_is_rejected_as_a_whole(
    client: httpx.AsyncClient, route: str, body: object, detail: str
) -> None:
    response = await client.post(route, json=body, headers={"x-service-key": SERVICE_KEY})
    assert_error(response, 422, "Validation error", detail)


async def test_one_of_several_concurrent_requests_changes_each_alert(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The requests have the same ids in opposite orders and different notes, so the others are 409."""
    results = await bulk_create(client, *(alert_body(tenant) for _ in range(500)))
    ids = [result["alert"]["id"] for result in results]
    bodies = await asyncio.gather(
        *(bulk_transition(client, "acknowledge", ids=ids[:: (-1) ** n], note=str(n)) for n in range(6))
    )
    results = [result for body in bodies for result in body["results"]]
    changed = [result["alert"]["id"] for result in results if result["status"] == 200]
    assert sorted(changed) == sorted(ids)
    assert {result["status"] for result in results if result["status"] != 200} == {409}
    assert (await client.get(f"/stats/{tenant}")).json()["acknowledged"] == 500


async def test_concurrent_idempotent_requests_for_the_same_alerts_do_not_deadlock(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    """One statement locks all alerts of a request in the order of their ids. Several statements could deadlock."""
    for attempt in range(3):
        results = await bulk_create(client, *(alert_body(tenant, message=str(n)) for n in range(600)))
        ids = [result["alert"]["id"] for result in results]
        requests = [
            client.post(
                "/alerts/bulk/resolve",
                json={"ids": ordered_ids},
                headers={"Idempotency-Key": f"{tenant}-{attempt}-{number}"},
            )
            for number, ordered_ids in enumerate((ids, ids[300:] + ids[:300]))
        ]
        for response in await asyncio.gather(*requests):
            assert response.status_code == 200, response.text
            assert result_statuses(response.json()["results"]) == [200] * 600


async def test_an_alert_that_changes_after_a_filter_has_found_it_is_left_unchanged(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    """`more` tells the client to send the request again."""
    alert = await create_alert(client, tenant, severity="low")
    connection = await asyncpg.connect(settings.database_url)
    async with connection.transaction():
        escalate = "UPDATE alerts SET severity = 'critical', updated_at = now() WHERE id = $1"
        await connection.execute(escalate, UUID(alert["id"]))
        filter_ = {"tenant_id": str(tenant), "severity": "low"}
        request = asyncio.create_task(bulk_transition(client, "resolve", filter=filter_))
        await asyncio.sleep(0.1)
    await connection.close()
    assert await request == {"results": [], "more": True}
    assert (await client.get(f"/alerts/{alert['id']}")).json()["status"] == "triggered"
