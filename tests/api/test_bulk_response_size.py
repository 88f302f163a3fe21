"""The size of bulk responses: beyond 4 MiB, results have the id of an alert in place of the alert."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.api import SERVICE_KEY, alert_body, create_alert, transition
from tests.support.bulk import BULK_TRANSITION_ROUTES, bulk_create, bulk_transition, result_statuses

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LARGE_TEXT = "\N{GRINNING FACE}" * 10_000


def assert_complete_up_to_4_mib(body: dict[str, Any], count: int) -> None:
    """The first results contain alerts of 4 MiB and a few more, the others their ids."""
    results = body["results"]
    complete = [result for result in results if "alert" in result]
    assert len(results) == count
    assert results[: len(complete)] == complete
    assert 4 * MIB < len(json.dumps(complete, ensure_ascii=False).encode()) < 6 * MIB
    assert {frozenset(result) for result in results[len(complete) :]} == {frozenset({"status", "id"})}


@pytest.mark.parametrize("route", BULK_TRANSITION_ROUTES)
@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "transition"])
@pytest.mark.parametrize("has_key", [True, False], ids=["Idempotency-Key", "no key"])
async def test_results_of_a_transition_by_ids_contain_4_mib_of_alerts(
    client: httpx.AsyncClient, tenant: UUID, route: str, *, dry_run: bool, has_key: bool
) -> None:
    alert = await create_alert(client, tenant, message=LARGE_TEXT)
    await transition(client, alert, "acknowledge", LARGE_TEXT)
    body = {"ids": [alert["id"]] * 999 + ["x"], "dry_run": dry_run, "note": LARGE_TEXT}
    headers = {"x-service-key": SERVICE_KEY, **({"Idempotency-Key": str(tenant)} if has_key else {})}
    response = (await client.post(route, json=body, headers=headers)).json()
    assert response["results"].pop()["status"] == 422
    assert_complete_up_to_4_mib(response, 999)
    assert response["results"][-1] == {"status": 200, "id": alert["id"]}


async def test_results_of_a_transition_by_filter_contain_4_mib_of_alerts(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    results = await bulk_create(client, *(alert_body(tenant) for _ in range(100)))
    ids = [result["alert"]["id"] for result in results]
    await bulk_transition(client, "acknowledge", ids=ids[:60], note=LARGE_TEXT)
    ids += [(await create_alert(client, tenant, message=LARGE_TEXT))["id"] for _ in range(60)]
    for dry_run in (True, False):
        filter_ = {"tenant_id": str(tenant)}
        body = await bulk_transition(client, "resolve", filter=filter_, dry_run=dry_run, note=LARGE_TEXT)
        results = body["results"]
        assert len(results) == 160
        assert [result["alert"]["id"] if "alert" in result else result["id"] for result in results] == ids
        assert len(json.dumps(body, ensure_ascii=False).encode()) < 6 * MIB
        assert results[-1] == {"status": 200, "id": ids[-1]}
    assert (await client.get(f"/stats/{tenant}")).json()["resolved"] == 160


@pytest.mark.parametrize("route", ["/alerts/bulk", "/internal/alerts/bulk"])
async def test_results_of_duplicates_contain_4_mib_of_alerts(
    client: httpx.AsyncClient, tenant: UUID, route: str
) -> None:
    alert = await create_alert(client, tenant, message=LARGE_TEXT, dedup_key="k")
    await transition(client, alert, "acknowledge", LARGE_TEXT)
    items = [alert_body(tenant, dedup_key="k")] * 999 + [alert_body(tenant)]
    response = await client.post(route, json={"alerts": items}, headers={"x-service-key": SERVICE_KEY})
    assert_complete_up_to_4_mib(response.json(), 1000)
    assert result_statuses(response.json()["results"]) == [200] * 999 + [201]
    assert (await client.get(f"/alerts/{alert['id']}")).json()["occurrences"] == 1000
