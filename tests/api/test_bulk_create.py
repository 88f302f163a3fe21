"""Creating many alerts in one request. Each alert has the result of a request for it alone."""

import asyncio
import gc
import json
import statistics
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import alert_body, assert_error, client_for
from tests.support.asgi import Input, answer
from tests.support.bulk import bulk_create, bulk_transition, result_statuses
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio

VALID_ITEM = {"tenant_id": str(UUID(int=0)), "rule_name": "r", "message": "m"}


async def test_a_thousand_alerts_are_created_in_the_order_of_the_request(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    results = await bulk_create(client, *(alert_body(tenant, message=str(n), severity="high") for n in range(1000)))
    assert result_statuses(results) == [201] * 1000
    assert [result["alert"]["message"] for result in results] == [str(n) for n in range(1000)]
    for index in (0, 249, 250, 999):
        alert = results[index]["alert"]
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert
    stats = (await client.get(f"/stats/{tenant}")).json()
    assert stats["total"] == stats["triggered"] == 1000


async def test_each_alert_of_a_bulk_request_has_its_own_history(client: httpx.AsyncClient, tenant: UUID) -> None:
    results = await bulk_create(client, alert_body(tenant), alert_body(tenant), **{"x-request-id": "import-1"})
    ids = [result["alert"]["id"] for result in results]
    await bulk_transition(client, "acknowledge", ids=ids, note="on it")
    for id_ in ids:
        events = (await client.get(f"/alerts/{id_}/history")).json()
        assert [(event["type"], event["note"]) for event in events] == [("created", None), ("acknowledged", "on it")]
        assert (events[0]["request_id"], events[0]["actor"]) == ("import-1", "anonymous")


@pytest.mark.parametrize(
    "invalid_item",
    [
        {**VALID_ITEM, "tenant_id": "x"},
        {**VALID_ITEM, "severity": "huge"},
        {**VALID_ITEM, "rule_name": ""},
        {**VALID_ITEM, "message": "x" * 10_001},
        {**VALID_ITEM, "message": "\0"},
        {**VALID_ITEM, "status": "resolved"},
        {"tenant_id": VALID_ITEM["tenant_id"]},
        5,
        None,
        [],
        "x",
    ],
    ids=[
        "tenant_id",
        "severity",
        "empty rule_name",
        "long message",
        "NUL in message",
        "unknown field",
        "missing fields",
        "number",
        "null",
        "list",
        "string",
    ],
)
async def test_an_invalid_item_does_not_affect_the_other_items(
    client: httpx.AsyncClient, tenant: UUID, invalid_item: object
) -> None:
    """Its error is that of a request for this item alone."""
    first, invalid, last = await bulk_create(
        client, alert_body(tenant, message="first"), invalid_item, alert_body(tenant, message="last")
    )
    assert (first["alert"]["message"], last["alert"]["message"]) == ("first", "last")
    single = await client.post("/alerts", content=json.dumps(invalid_item))
    assert invalid == {"status": 422, "error": single.json()}
    assert len((await client.get(f"/alerts?tenant_id={tenant}")).json()) == 2


@pytest.mark.parametrize(
    ("invalid_fields", "valid_fields", "count"),
    [
        ({"severity": "odd"}, {"severity": "low"}, 1000),
        ({"rule_name": ""}, {}, 1000),
        ({"unknown": 1}, {}, 1000),
        ({"message": "m" * 10_001}, {"message": "m" * 10_000}, 100),
    ],
    ids=["severity", "empty rule_name", "unknown field", "long message"],
)
async def test_an_invalid_item_takes_about_as_much_cpu_time_as_a_valid_one(
    client: httpx.AsyncClient, tenant: UUID, invalid_fields: dict[str, Any], valid_fields: dict[str, Any], count: int
) -> None:
    async def cpu_seconds(fields: dict[str, Any]) -> float:
        content = json.dumps({"alerts": [alert_body(tenant, **fields)] * count})
        started = time.process_time()
        assert (await client.post("/alerts/bulk", content=content)).status_code == 200
        return time.process_time() - started

    ratios = [await cpu_seconds(invalid_fields) / await cpu_seconds(valid_fields) for _ in range(5)]
    assert statistics.median(ratios) < 1.5


async def test_an_invalid_line_takes_about_as_much_cpu_time_as_a_valid_one(app: AlertsApp, tenant: UUID) -> None:
    headers = [(b"content-type", b"application/x-ndjson")]

    async def cpu_seconds(item: object) -> float:
        line = json.dumps(item).encode() + b"\n"
        request = Input("POST", b"/alerts/bulk", b"", headers, line * 2000)
        started = time.process_time()
        _, _, results = await answer(app, request)
        assert results.count(b"\n") == 2000
        return time.process_time() - started

    invalid_item, valid_item = alert_body(tenant, severity="odd"), alert_body(tenant)
    ratios = [await cpu_seconds(invalid_item) / await cpu_seconds(valid_item) for _ in range(5)]
    assert statistics.median(ratios) < 1.5


async def test_a_tenant_token_creates_alerts_of_its_own_tenant_only(
    app: AlertsApp, settings: Settings, tenant: UUID
) -> None:
    """An item of another tenant is 403."""
    app_with_tokens = create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)
    async with client_for(app_with_tokens) as client:
        items = [alert_body(tenant), alert_body(uuid4()), alert_body(tenant)]
        results = await bulk_create(client, *items, **bearer_header(sign_token("HS256", tenant)))
    assert result_statuses(results) == [201, 403, 201]
    assert results[1]["error"] == {"error": "Forbidden", "detail": "tenant_id: must be the token's own tenant"}


async def test_a_bulk_request_counts_once_towards_the_rate_limit_of_each_tenant(
    app: AlertsApp, settings: Settings, tenant: UUID
) -> None:
    """Beyond the limit, each item of the tenant is 429."""
    limited_app = create_app(replace(settings, rate_limit_tenant="2/hour"), app.state.database)
    async with client_for(limited_app) as client:
        items = [alert_body(tenant) for _ in range(3)]
        for _ in range(2):
            assert result_statuses(await bulk_create(client, *items)) == [201] * 3
        results = await bulk_create(client, *items, alert_body(uuid4()))
        assert result_statuses(results) == [429, 429, 429, 201]
        assert 0 < results[0]["retry_after"] <= 3600
        response = await client.post(f"/alerts/bulk/resolve?tenant_id={tenant}", json={"ids": [str(uuid4())]})
        assert_error(response, 429, "Too many requests")


async def test_a_rate_limited_item_is_not_stored_under_an_idempotency_key(
    app: AlertsApp, settings: Settings, tenant: UUID
) -> None:
    """The whole request is 429, and a later request with the key creates the alerts."""
    limited_app = create_app(replace(settings, rate_limit_tenant="1/hour"), app.state.database)
    body = {"alerts": [alert_body(uuid4()), alert_body(tenant)]}
    async with client_for(limited_app) as client:
        await client.get(f"/stats/{tenant}")
        response = await client.post("/alerts/bulk", json=body, headers={"Idempotency-Key": str(tenant)})
        assert_error(response, 429, "Too many requests", "1/hour")
    async with client_for(app) as client:
        response = await client.post("/alerts/bulk", json=body, headers={"Idempotency-Key": str(tenant)})
        assert "idempotent-replayed" not in response.headers
        assert result_statuses(response.json()["results"]) == [201, 201]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
async def test_the_event_loop_runs_other_tasks_while_items_are_decoded(
    client: httpx.AsyncClient, tenant: UUID, content_type: str
) -> None:
    iterations = 0

    async def count_iterations() -> None:
        nonlocal iterations
        while True:
            await asyncio.sleep(0)
            iterations += 1

    items = [json.dumps(alert_body(tenant, severity="odd"))] * 1000
    content = f'{{"alerts": [{",".join(items)}]}}' if content_type == "application/json" else "\n".join(items)
    counter = asyncio.create_task(count_iterations())
    response = await client.post("/alerts/bulk", content=content, headers={"Content-Type": content_type})
    counter.cancel()
    assert response.text.count('"status":422') == 1000
    assert iterations >= 15


async def test_invalid_items_leave_no_reference_cycles(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A pass of the garbage collector over the cycles of a few lists took 300 ms."""
    items = [alert_body(tenant, severity="odd")] * 1000
    gc.collect()
    gc.disable()
    try:
        response = await client.post("/alerts/bulk", json={"alerts": items})
        assert response.text.count('"status":422') == 1000
        assert gc.collect() < 1000
    finally:
        gc.enable()
