"""Rules that apply to all bulk operations: number of items, body, media type, service key."""

from uuid import UUID

import httpx
import pytest

from tests.support.api import SERVICE_KEY, alert_body, assert_error
from tests.support.bulk import BULK_ROUTES, BULK_TRANSITION_ROUTES, result_statuses

pytestmark = pytest.mark.anyio

VALID_ITEM = {"tenant_id": str(UUID(int=0)), "rule_name": "r", "message": "m"}


@pytest.mark.parametrize("route", BULK_ROUTES)
@pytest.mark.parametrize("count", [0, 1001])
async def test_a_request_has_1_to_1000_items(client: httpx.AsyncClient, route: str, count: int) -> None:
    name = "alerts" if route.endswith("bulk") else "ids"
    response = await client.post(route, json={name: [VALID_ITEM] * count}, headers={"x-service-key": SERVICE_KEY})
    assert_error(response, 422, "Validation error", f"{name}: must ")


@pytest.mark.parametrize("route", BULK_ROUTES)
@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "body: must not be empty"),
        (b"{}", ""),
        (b"[]", "body: "),
        (b"{", "body: "),
        (b'{"x":1}', ""),
        (b'{"alerts":' + b"[" * 100_000, ""),
        (b'{"ids":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
        (b'{"alerts":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ],
    ids=[
        "empty",
        "empty object",
        "list",
        "unclosed object",
        "unknown field",
        "unclosed nested alerts",
        "nested ids",
        "nested alerts",
    ],
)
async def test_a_body_without_a_valid_list_is_rejected_as_a_whole(
    client: httpx.AsyncClient, route: str, content: bytes, detail: str
) -> None:
    response = await client.post(route, content=content, headers={"x-service-key": SERVICE_KEY})
    assert_error(response, 422, "Validation error", detail)


@pytest.mark.parametrize("route", BULK_ROUTES)
async def test_a_body_that_is_too_large_or_not_json_is_rejected(client: httpx.AsyncClient, route: str) -> None:
    """NDJSON must be identity either."""
    headers = {"x-service-key": SERVICE_KEY}
    assert_error(await client.post(route, content=b" " * 2**20 + b"{}", headers=headers), 413, "Body too large")
    assert_error(await client.post(route, data={"a": "b"}, headers=headers), 415, "Unsupported media type")
    headers |= {"content-encoding": "gzip", "content-type": "application/x-ndjson"}
    assert_error(await client.post(route, content=b"x", headers=headers), 415, "Unsupported media type")


@pytest.mark.parametrize("route", ["/alerts", *BULK_TRANSITION_ROUTES])
async def test_only_bulk_create_accepts_ndjson(client: httpx.AsyncClient, route: str) -> None:
    headers = {"content-type": "application/x-ndjson", "x-service-key": SERVICE_KEY}
    assert_error(await client.post(route, content=b"{}", headers=headers), 415, "Unsupported media type")


@pytest.mark.parametrize("route", BULK_ROUTES)
async def test_internal_routes_require_the_service_key(client: httpx.AsyncClient, route: str) -> None:
    route = f"/internal{route.removeprefix('/internal')}"
    for content_type in ("application/json", "application/x-ndjson"):
        response = await client.post(route, content=b"{}", headers={"content-type": content_type})
        assert_error(response, 401, "Unauthorized")


async def test_the_actor_of_internal_bulk_requests_is_the_service(client: httpx.AsyncClient, tenant: UUID) -> None:
    headers = {"x-service-key": SERVICE_KEY}
    response = await client.post("/internal/alerts/bulk", json={"alerts": [alert_body(tenant)]}, headers=headers)
    ids = [response.json()["results"][0]["alert"]["id"]]
    for verb in ("acknowledge", "resolve"):
        response = await client.post(f"/internal/alerts/bulk/{verb}", json={"ids": ids}, headers=headers)
        assert result_statuses(response.json()["results"]) == [200]
    events = (await client.get(f"/alerts/{ids[0]}/history")).json()
    assert [(event["type"], event["actor"]) for event in events] == [
        ("created", "service"),
        ("acknowledged", "service"),
        ("resolved", "service"),
    ]
