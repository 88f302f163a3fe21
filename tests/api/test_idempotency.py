"""The Idempotency-Key header: a request with a key is executed once, and its response is replayed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.db.pool import Connection
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import alert_body, assert_error, client_for, create_alert
from tests.support.idempotency import (
    SERVICE_HEADERS,
    assert_replayed,
    count_rows,
    create_with_key,
)
from tests.support.processes import serving
from tests.support.routes import ROUTES, Route, TwoTenants, owner_request, route_name, send_request
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio

WRITE_ROUTES = [route for route in ROUTES if route[0] in {"POST", "PUT"}]


@pytest.fixture
async def token_client(app: AlertsApp, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that requires tokens."""
    async with client_for(create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)) as client:
        yield client


@pytest.mark.parametrize("route", WRITE_ROUTES, ids=route_name)
async def test_every_post_and_put_replays_its_response_and_changes_nothing(
    two_tenants: TwoTenants, route: Route
) -> None:
    values, token = owner_request(route, two_tenants), sign_token("HS256", two_tenants.victim.tenant)
    headers = {**bearer_header(token), **SERVICE_HEADERS, "Idempotency-Key": uuid4().hex}
    first = await send_request(two_tenants.client, route, values, headers)
    assert first.status_code in {200, 201}, first.text
    rows = await two_tenants.victim_rows()
    assert_replayed(first, await send_request(two_tenants.client, route, values, headers))
    assert await two_tenants.victim_rows() == rows


@pytest.mark.parametrize("route", WRITE_ROUTES, ids=route_name)
async def test_every_post_and_put_rejects_an_invalid_key_and_changes_nothing(
    two_tenants: TwoTenants, route: Route
) -> None:
    rows = await two_tenants.victim_rows()
    values, token = owner_request(route, two_tenants), sign_token("HS256", two_tenants.victim.tenant)
    for key in ("", '"', '""', "a b", '"a', '"a b"', '"a\\b"', '"a";b=1', "é", "a" * 256, f'"{"a" * 256}"'):
        headers: Any = {**bearer_header(token), **SERVICE_HEADERS, "Idempotency-Key": key.encode()}
        response = await send_request(two_tenants.client, route, values, headers)
        assert_error(response, 422, "Validation error", "Idempotency-Key: must be 1 to 255")
    assert await two_tenants.victim_rows() == rows


async def test_two_keys_in_one_request_are_422(client: httpx.AsyncClient, tenant: UUID) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    response = await client.post("/alerts", json=alert_body(tenant), headers=headers)
    assert_error(response, 422, "Validation error", "Idempotency-Key")


@pytest.mark.parametrize("key", ["a", 'a"\\b', "!" * 255, '\\"' * 127, "~#[]"])
async def test_a_quoted_key_equals_the_bare_key(client: httpx.AsyncClient, tenant: UUID, key: str) -> None:
    """The draft of the header requires the quotes, and many clients omit them."""
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    first = await create_with_key(client, tenant, key)
    assert_replayed(first, await create_with_key(client, tenant, f'"{quoted}"'))


async def test_repeated_requests_have_the_effect_of_one(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    """There is one alert, one event for each change, and one alert in the statistics."""
    creates = [await create_with_key(client, tenant, "a") for _ in range(3)]
    path, headers = f"/alerts/{creates[0].json()['id']}/acknowledge", {"Idempotency-Key": "a"}
    transitions = [await client.put(path, json={"note": "n"}, headers=headers) for _ in range(3)]
    for first, *repeated in (creates, transitions):
        assert first.headers["etag"] == f'"{first.json()["updated_at"]}"'
        for response in repeated:
            assert_replayed(first, response)
    history = (await client.get("/history", params={"tenant_id": str(tenant)})).json()
    assert [event["type"] for event in history] == ["created", "acknowledged"]
    assert (await client.get(f"/stats/{tenant}")).json() == {
        "total": 1,
        "triggered": 0,
        "acknowledged": 1,
        "resolved": 0,
    }
    assert await count_rows(connection, tenant) == 1


async def test_without_a_key_each_request_is_executed_and_no_response_is_stored(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    responses = [await client.post("/alerts", json=alert_body(tenant)) for _ in range(2)]
    assert responses[0].json()["id"] != responses[1].json()["id"]
    assert all("idempotent-replayed" not in response.headers for response in responses)
    assert await count_rows(connection, tenant, "idempotency_keys") == 0


async def test_the_first_response_is_replayed_after_the_alert_has_changed(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    first = await create_with_key(client, tenant, "a")
    assert (await client.put(f"/alerts/{first.json()['id']}/resolve")).status_code == 200
    assert_replayed(first, await create_with_key(client, tenant, "a"))


async def test_a_key_with_a_different_body_or_if_match_is_422(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The stored response is not affected."""
    alert = await create_alert(client, tenant)
    path, headers = f"/alerts/{alert['id']}/resolve", {"Idempotency-Key": "a"}
    first = await client.put(path, json={"note": "a"}, headers=headers)
    for response in (
        await client.put(path, json={"note": "b"}, headers=headers),
        await client.put(path, headers=headers),
        await client.put(path, json={"note": "a"}, headers={**headers, "If-Match": "*"}),
    ):
        assert_error(response, 422, "Validation error", "Idempotency-Key: already used for a different request")
    assert_replayed(first, await client.put(path, json={"note": "a"}, headers=headers))


async def test_a_key_is_valid_for_one_tenant_route_and_alert(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Additional slashes in a path do not make another route."""
    key_header = {"Idempotency-Key": "a"}
    public, foreign = await create_with_key(client, tenant, "a"), await create_with_key(client, uuid4(), "a")
    internal = await client.post("/internal/alerts", json=alert_body(tenant), headers={**SERVICE_HEADERS, **key_header})
    assert len({response.json()["id"] for response in (public, foreign, internal)}) == 3
    for created in (public, internal):
        for verb, status in (("acknowledge", "acknowledged"), ("resolve", "resolved")):
            path = f"/alerts/{created.json()['id']}/{verb}"
            first = await client.put(path, headers=key_header)
            assert (first.status_code, first.json()["status"]) == (200, status)
            assert "idempotent-replayed" not in first.headers
            assert_replayed(first, await client.put(f"//{path}/", headers=key_header))


async def test_with_tokens_a_key_belongs_to_the_tenant_of_the_token(
    token_client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    """A key of another tenant replays nothing, even if the request names the owner of the alert."""
    tokens = [bearer_header(sign_token("HS256", tenant_id)) for tenant_id in (tenant, uuid4())]
    own, other = ({**token, "Idempotency-Key": "a"} for token in tokens)
    created = await token_client.post("/alerts", json=alert_body(tenant), headers=own)
    path = f"/alerts/{created.json()['id']}/resolve"
    resolved = await token_client.put(path, headers=own)
    for named_tenant in (None, tenant):
        params = {"tenant_id": str(named_tenant)} if named_tenant else {}
        headers = {**other, "Idempotency-Key": f"b{named_tenant}"}
        for _ in range(2):
            assert_error(await token_client.put(path, headers=headers, params=params), 404, "Alert not found")
    assert_error(await token_client.put(path, headers=other), 404, "Alert not found")
    assert_replayed(resolved, await token_client.put(path, headers=own))
    different = await token_client.put(path, headers=own, params={"tenant_id": str(tenant)})
    assert_error(different, 422, "Validation error", "Idempotency-Key: already used for a different request")
    assert await count_rows(connection, tenant, "idempotency_keys") == 2


async def test_errors_because_of_the_state_of_the_alert_are_replayed(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    path = f"/alerts/{alert['id']}/acknowledge"
    requests: list[tuple[int, str, dict[str, str]]] = [
        (404, f"/alerts/{uuid4()}/acknowledge", {}),
        (412, path, {"If-Match": '"other"'}),
        (409, path, {}),
    ]
    assert (await client.put(f"/alerts/{alert['id']}/resolve")).status_code == 200
    for status, request_path, headers in requests:
        headers_with_key = {**headers, "Idempotency-Key": str(status)}
        first = await client.put(request_path, headers=headers_with_key)
        assert first.status_code == status
        assert_replayed(first, await client.put(request_path, headers=headers_with_key))


async def test_a_request_that_is_rejected_before_execution_does_not_use_its_key(
    token_client: httpx.AsyncClient, tenant: UUID
) -> None:
    key_header = {"Idempotency-Key": "a"}
    headers = {**bearer_header(sign_token("HS256", tenant)), **key_header}
    rejected = [
        await token_client.post("/alerts", json=alert_body(tenant), headers=key_header),
        await token_client.post("/alerts", json=alert_body(uuid4()), headers=headers),
        await token_client.post("/alerts", content=b" " * (1024 * 1024 + 1), headers=headers),
        await token_client.post("/alerts", json=alert_body(tenant), headers={**headers, "Content-Type": "text/plain"}),
        await token_client.post("/alerts", json={}, headers=headers),
        await token_client.post("/alerts?x=1", json=alert_body(tenant), headers=headers),
    ]
    assert [response.status_code for response in rejected] == [401, 403, 413, 415, 422, 422]
    created = await token_client.post("/alerts", json=alert_body(tenant), headers=headers)
    assert created.status_code == 201
    assert "idempotent-replayed" not in created.headers


@pytest.mark.parametrize(("age", "expired"), [("23:59:30", False), ("24:00:01", True)])
async def test_a_key_expires_after_24_hours(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection, age: str, *, expired: bool
) -> None:
    """An expired key may be used for a different request, whose response replaces the stored one."""
    first = await create_with_key(client, tenant, "a")
    sql = "UPDATE idempotency_keys SET created_at = created_at - $2::text::interval WHERE tenant_id = $1"
    await connection.execute(sql, tenant, age)
    body = alert_body(tenant, message="Something else") if expired else alert_body(tenant)
    second, third = [await client.post("/alerts", json=body, headers={"Idempotency-Key": "a"}) for _ in range(2)]
    assert (first.content != second.content) == expired
    assert third.content == second.content
    assert third.headers["idempotent-replayed"] == "true"
    assert await count_rows(connection, tenant, "idempotency_keys") == 1
    assert await count_rows(connection, tenant) == 1 + expired


async def test_a_response_is_replayed_by_another_process_after_a_kill(
    settings: Settings, tmp_path: Path, tenant: UUID
) -> None:
    database, headers = str(settings.database_url), {"Idempotency-Key": "a"}
    with serving(tmp_path, DATABASE_URL=database) as killed:
        with killed.client(**headers) as client:
            first = client.post("/alerts", json=alert_body(tenant))
        killed.process.kill()
        killed.process.wait()
    with serving(tmp_path, DATABASE_URL=database) as restarted, restarted.client(**headers) as client:
        assert_replayed(first, client.post("/alerts", json=alert_body(tenant)))


async def test_cors_allows_the_key_and_exposes_the_replay_header(
    app: AlertsApp, settings: Settings, tenant: UUID
) -> None:
    origin = "https://desk.example"
    preflight_headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "idempotency-key",
    }
    headers = {"Origin": origin, "Idempotency-Key": "a"}
    async with client_for(create_app(replace(settings, cors_origins=origin), app.state.database)) as client:
        preflight = await client.options("/alerts", headers=preflight_headers)
        response = await client.post("/alerts", json=alert_body(tenant), headers=headers)
    assert "idempotency-key" in preflight.headers["access-control-allow-headers"].lower()
    assert "Idempotent-Replayed" in response.headers["access-control-expose-headers"]


async def test_an_alert_that_exceeds_the_present_limits_is_replayed_whole(
    client: httpx.AsyncClient, tenant: UUID, connection: Connection
) -> None:
    """An earlier version may have stored a longer message."""
    alert = await create_alert(client, tenant)
    await connection.execute("UPDATE alerts SET message = repeat('m', 300000) WHERE tenant_id = $1", tenant)
    path, headers = f"/alerts/{alert['id']}/resolve", {"Idempotency-Key": "a"}
    first = await client.put(path, headers=headers)
    assert (first.status_code, len(first.json()["message"])) == (200, 300_000)
    assert_replayed(first, await client.put(path, headers=headers))
