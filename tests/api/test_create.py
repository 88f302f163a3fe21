"""Creating a single alert, and the service key of the internal route."""

from datetime import datetime, timedelta, timezone
from uuid import UUID

import httpx
import msgspec
import pytest

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import ALERT_KEYS, SERVICE_KEY, alert_body, assert_error, client_for, create_alert
from tests.support.factories import CreateAlertFactory

pytestmark = pytest.mark.anyio


async def test_a_new_alert_has_the_twelve_specified_keys_in_order(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    assert list(alert) == ALERT_KEYS
    assert alert["tenant_id"] == str(tenant)
    assert alert["status"] == "triggered"
    assert [key for key in ALERT_KEYS if alert[key] is None] == ALERT_KEYS[8:]
    UUID(alert["id"])


async def test_times_of_a_new_alert_are_the_current_time_in_utc(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    created_at = msgspec.convert(alert["created_at"], datetime)
    assert alert["created_at"].endswith("+00:00")
    assert alert["updated_at"] == alert["created_at"]
    assert abs(datetime.now(timezone.utc) - created_at) < timedelta(minutes=1)


async def test_severity_defaults_to_medium(client: httpx.AsyncClient, tenant: UUID) -> None:
    assert (await create_alert(client, tenant))["severity"] == "medium"


@pytest.mark.parametrize("severity", ["low", "medium", "high", "critical"])
async def test_the_severity_of_the_request_is_stored(client: httpx.AsyncClient, tenant: UUID, severity: str) -> None:
    assert (await create_alert(client, tenant, severity=severity))["severity"] == severity


async def test_any_valid_text_is_returned_unchanged(client: httpx.AsyncClient) -> None:
    """The texts are random, and some have the maximum length."""
    CreateAlertFactory.seed_random(3101)
    for body in CreateAlertFactory.batch(100):
        response = await client.post("/alerts", content=msgspec.json.encode(body))
        assert response.status_code == 201, response.text
        stored = (await client.get(f"/alerts/{response.json()['id']}")).json()
        assert stored == response.json()
        sent = msgspec.to_builtins(body)
        assert {key: stored.get(key) for key in sent} == sent


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "Application/JSON; charset=utf-8", "application/ld+json"]
)
async def test_a_body_is_json_by_its_content_type_or_without_one(
    client: httpx.AsyncClient, tenant: UUID, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post("/alerts", content=msgspec.json.encode(alert_body(tenant)), headers=headers)
    assert response.status_code == 201


async def test_the_internal_route_creates_the_same_alert_as_the_public_route(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    response = await client.post("/internal/alerts", json=alert_body(tenant), headers={"x-service-key": SERVICE_KEY})
    assert response.status_code == 201
    assert list(response.json()) == ALERT_KEYS
    assert (await client.get("/alerts", params={"tenant_id": tenant.hex})).json() == [response.json()]


@pytest.mark.parametrize(
    "key", [None, "", "wrong", SERVICE_KEY + " ", SERVICE_KEY[:-1], "ключ", "nmc-internal-services-auth-key-phase1"]
)
async def test_the_internal_route_rejects_a_wrong_service_key(client: httpx.AsyncClient, key: str | None) -> None:
    headers = {} if key is None else {b"x-service-key": key.encode()}
    assert_error(await client.post("/internal/alerts", headers=headers), 401, "Unauthorized", "x-service-key")


async def test_each_of_several_service_keys_is_accepted(app: AlertsApp, tenant: UUID) -> None:
    """Part of a key and the whole list are rejected. Keys need not be ASCII."""
    keys = ("old-key", "neuer-schlüssel", "newest-key")
    app_with_keys = create_app(Settings(internal_service_key=",".join(keys)), app.state.database)
    async with client_for(app_with_keys) as client:
        for key in keys:
            headers = {b"x-service-key": key.encode()}
            assert (await client.post("/internal/alerts", json=alert_body(tenant), headers=headers)).status_code == 201
        for key in ("", ",", "old", ",".join(keys), "old-key,", "neuer-schlussel"):
            headers = {b"x-service-key": key.encode()}
            response = await client.post("/internal/alerts", json=alert_body(tenant), headers=headers)
            assert_error(response, 401, "Unauthorized", "x-service-key")
            assert not any(key in response.text for key in keys)


async def test_the_service_key_is_checked_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    """A body over 1 MiB would be 413."""
    assert_error(await client.post("/internal/alerts", content=b"x" * (2 << 20)), 401, "Unauthorized")
