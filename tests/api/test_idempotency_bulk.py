"""The Idempotency-Key header of bulk requests: the tenant of a key, and the size of stored responses."""

from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.db.pool import Connection
from tests.support.api import alert_body, assert_error, create_alert
from tests.support.idempotency import SERVICE_HEADERS, assert_replayed

pytestmark = pytest.mark.anyio

MAX_STORED_BYTES = 262_144


async def post_with_key(client: httpx.AsyncClient, path: str, key: str, **body: object) -> httpx.Response:
    return await client.post(path, json=body, headers={**SERVICE_HEADERS, "Idempotency-Key": key})


async def stored_sizes(connection: Connection, tenant: UUID) -> dict[str, int]:
    """Return the size of each stored body of a tenant, by the route."""
    rows = await connection.fetch(
        "SELECT route, octet_length(body) AS size FROM idempotency_keys WHERE tenant_id = $1 ORDER BY 1", tenant
    )
    return {row["route"]: row["size"] for row in rows}


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
async def test_the_key_of_a_dry_run_is_validated_and_not_stored(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection, verb: str
) -> None:
    """The transition itself may use the same key."""
    alert, key = await create_alert(client, tenant), uuid4().hex
    for prefix in ("", "/internal"):
        path = f"{prefix}/alerts/bulk/{verb}"
        for target in ({"ids": [alert["id"]]}, {"filter": {"tenant_id": str(tenant)}}):
            response = await post_with_key(client, path, key, **target, dry_run=True)
            assert [result["alert"] for result in response.json()["results"]] == [alert]
            invalid = await post_with_key(client, path, "a b", **target, dry_run=True)
            assert_error(invalid, 422, "Validation error", "Idempotency-Key: must be 1 to 255")
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys WHERE key = $1", key) == 0
    response = await post_with_key(client, path, key, ids=[alert["id"]])
    assert response.json()["results"][0]["status"] == 200
    assert "idempotent-replayed" not in response.headers


async def test_a_response_over_256_kib_is_replayed_with_ids_in_place_of_alerts(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    """The statuses, the errors and `more` are stored as well."""
    alerts = [alert_body(tenant, message="m" * 10_000) for _ in range(30)]
    resolve_path, tenant_filter = "/alerts/bulk/resolve", {"tenant_id": str(tenant)}
    created = await post_with_key(client, "/alerts/bulk", "a", alerts=[*alerts, {}])
    ids = [result["alert"]["id"] for result in created.json()["results"][:30]]
    resolved = await post_with_key(client, resolve_path, "a", filter=tenant_filter)
    assert [result["alert"]["id"] for result in resolved.json()["results"]] == ids
    for _ in range(2):
        replayed = await post_with_key(client, "/alerts/bulk", "a", alerts=[*alerts, {}])
        assert replayed.headers["idempotent-replayed"] == "true"
        results = [{"status": 201, "id": alert_id} for alert_id in ids]
        assert replayed.json() == {"results": [*results, created.json()["results"][30]]}
        replayed = await post_with_key(client, resolve_path, "a", filter=tenant_filter)
        assert replayed.json() == {"results": [{"status": 200, "id": alert_id} for alert_id in ids], "more": False}
    assert max((await stored_sizes(connection, tenant)).values()) < 4096


async def test_a_response_of_up_to_256_kib_is_replayed_whole(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The size varies by some bytes, since times have fewer digits when they end in zeros."""
    alerts = [alert_body(tenant, message="m" * 10_000) for _ in range(25)]
    smallest = await post_with_key(client, "/alerts/bulk", "a", alerts=[*alerts, alert_body(tenant, message="")])
    size = len(smallest.content)
    for key, target_size in (("b", MAX_STORED_BYTES - 400), ("c", MAX_STORED_BYTES + 400)):
        padded = [*alerts, alert_body(tenant, message="m" * (target_size - size - 200))]
        first = await post_with_key(client, "/alerts/bulk", key, alerts=padded)
        second = await post_with_key(client, "/alerts/bulk", key, alerts=padded)
        assert 1 < abs(len(first.content) - MAX_STORED_BYTES) < 1000
        assert (first.content == second.content) == (len(first.content) <= MAX_STORED_BYTES) == (key == "b")


async def test_if_the_errors_exceed_256_kib_they_are_replayed_without_details(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    alerts = [alert_body(tenant), *([{"💥" * 100: 1}] * 999)]
    first = await post_with_key(client, "/alerts/bulk", "a", alerts=alerts)
    second = await post_with_key(client, "/alerts/bulk", "a", alerts=alerts)
    assert len(first.content) > 300_000
    assert second.json()["results"] == [
        {"status": 201, "id": first.json()["results"][0]["alert"]["id"]},
        *([{"status": 422, "error": {"error": "Validation error", "detail": None}}] * 999),
    ]
    assert max((await stored_sizes(connection, tenant)).values()) < 100_000


@pytest.mark.parametrize("prefix", ["", "/internal"])
async def test_a_key_of_a_bulk_create_belongs_to_the_tenant_of_the_first_valid_alert(
    client: httpx.AsyncClient, connection: Connection, prefix: str
) -> None:
    """Without tokens, two tenants can use the same key. An invalid item names no tenant."""
    path, key = f"{prefix}/alerts/bulk", uuid4().hex
    for tenant in (uuid4(), uuid4()):
        alerts = [{}, "x", alert_body(uuid4(), severity="odd"), alert_body(tenant), alert_body(uuid4())]
        first = await post_with_key(client, path, key, alerts=alerts)
        assert [result["status"] for result in first.json()["results"]] == [422, 422, 422, 201, 201]
        assert_replayed(first, await post_with_key(client, path, key, alerts=alerts))
        assert (await stored_sizes(connection, tenant)).keys() == {f"POST {path}"}


async def test_a_response_that_an_earlier_version_stored_without_a_tenant_is_replayed(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID
) -> None:
    """A different request with the same key is executed."""
    key = uuid4().hex
    body = alert_body(tenant)
    first = await post_with_key(client, "/alerts/bulk", key, alerts=[body])
    await connection.execute("UPDATE idempotency_keys SET tenant_id = $1 WHERE key = $2", UUID(int=0), key)
    assert_replayed(first, await post_with_key(client, "/alerts/bulk", key, alerts=[body]))
    different = await post_with_key(client, "/alerts/bulk", key, alerts=[alert_body(uuid4())])
    assert [result["status"] for result in different.json()["results"]] == [201]


@pytest.mark.parametrize("prefix", ["", "/internal"])
async def test_a_key_of_a_transition_belongs_to_the_tenant_of_the_first_existing_alert(
    client: httpx.AsyncClient, connection: Connection, prefix: str
) -> None:
    """Without tokens, for requests that name no tenant: transitions of many alerts and of one."""
    path, key = f"{prefix}/alerts/bulk/resolve", uuid4().hex
    for tenant in (uuid4(), uuid4()):
        alert, other_alert = await create_alert(client, tenant), await create_alert(client, uuid4())
        ids = ["x", str(uuid4()), alert["id"], other_alert["id"]]
        first = await post_with_key(client, path, key, ids=ids)
        assert [result["status"] for result in first.json()["results"]] == [422, 404, 200, 200]
        assert_replayed(first, await post_with_key(client, path, key, ids=ids))
        await client.put(f"/alerts/{alert['id']}/resolve", headers={"Idempotency-Key": key})
        routes = (await stored_sizes(connection, tenant)).keys()
        assert routes == {f"POST {path}", f"PUT /alerts/{alert['id']}/resolve"}
