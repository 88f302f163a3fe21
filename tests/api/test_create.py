"""Recording alerts."""

from datetime import datetime, timedelta, timezone
from uuid import UUID

import httpx
import msgspec
import pytest

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import ALERT_KEYS, SERVICE_KEY, assert_error, client_for, create_alert
from tests.support.factories import CreateAlertFactory

pytestmark = pytest.mark.anyio


async def test_a_new_alert_has_the_twelve_keys_in_order(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A new alert is answered with 201 and exactly the specification's twelve keys, nulls among them."""
    alert = await create_alert(client, tenant)
    assert list(alert) == ALERT_KEYS
    assert alert["tenant_id"] == str(tenant)
    assert alert["status"] == "triggered"
    assert [key for key in ALERT_KEYS if alert[key] is None] == ALERT_KEYS[8:]
    UUID(alert["id"])


async def test_times_are_utc_with_an_offset(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Times are RFC 3339 in UTC, and those of a new alert are now."""
    alert = await create_alert(client, tenant)
    created = msgspec.convert(alert["created_at"], datetime)
    assert alert["created_at"].endswith("+00:00")
    assert alert["updated_at"] == alert["created_at"]
    assert abs(datetime.now(timezone.utc) - created) < timedelta(minutes=1)


async def test_severity_is_medium_by_default(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert without a severity is of medium severity."""
    assert (await create_alert(client, tenant))["severity"] == "medium"


@pytest.mark.parametrize("severity", ["low", "medium", "high", "critical"])
async def test_every_severity_is_kept(client: httpx.AsyncClient, tenant: UUID, severity: str) -> None:
    """Each of the four severities comes back as it was sent."""
    assert (await create_alert(client, tenant, severity=severity))["severity"] == severity


async def test_any_allowed_text_comes_back_as_it_was_sent(client: httpx.AsyncClient) -> None:
    """Texts of any length and any characters within the limits survive the way in and out."""
    CreateAlertFactory.seed_random(3101)
    for body in CreateAlertFactory.batch(100):
        response = await client.post("/alerts", content=msgspec.json.encode(body))
        assert response.status_code == 201, response.text
        found = (await client.get(f"/alerts/{response.json()['id']}")).json()
        assert found == response.json()
        sent = msgspec.to_builtins(body)
        assert {key: found.get(key) for key in sent} == sent


@pytest.mark.parametrize("type_", [None, "application/json", "Application/JSON; charset=utf-8", "application/ld+json"])
async def test_a_body_that_may_be_json(client: httpx.AsyncClient, tenant: UUID, type_: str | None) -> None:
    """A body is read as JSON if it is declared so, or not declared at all."""
    body = msgspec.json.encode({"tenant_id": tenant, "rule_name": "r", "message": "m"})
    headers = {"Content-Type": type_} if type_ else {}
    assert (await client.post("/alerts", content=body, headers=headers)).status_code == 201


async def test_an_internal_alert_is_as_a_public_one(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The internal route records the same alert as the public one, and everybody finds it."""
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    response = await client.post("/internal/alerts", json=body, headers={"x-service-key": SERVICE_KEY})
    assert response.status_code == 201
    assert list(response.json()) == ALERT_KEYS
    assert (await client.get("/alerts", params={"tenant_id": tenant.hex})).json() == [response.json()]


@pytest.mark.parametrize(
    "key", [None, "", "wrong", SERVICE_KEY + " ", SERVICE_KEY[:-1], "ключ", "nmc-internal-services-auth-key-phase1"]
)
async def test_an_internal_route_needs_the_key(client: httpx.AsyncClient, key: str | None) -> None:
    """Without the right key an internal route answers 401, a key that is not ASCII included."""
    headers = {} if key is None else {b"x-service-key": key.encode()}
    assert_error(await client.post("/internal/alerts", headers=headers), 401, "Unauthorized", "x-service-key")


async def test_either_key_is_good_while_they_change(app: AlertsApp, tenant: UUID) -> None:
    """Of several keys each is good, be it ASCII or not, and neither a part of them nor all together."""
    keys = ("old-key", "neuer-schlüssel", "newest-key")
    several = create_app(Settings(internal_service_key=",".join(keys)), app.state.database)
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    async with client_for(several) as client:
        for key in keys:
            headers = {b"x-service-key": key.encode()}
            assert (await client.post("/internal/alerts", json=body, headers=headers)).status_code == 201
        for key in ("", ",", "old", ",".join(keys), "old-key,", "neuer-schlussel"):
            response = await client.post("/internal/alerts", json=body, headers={b"x-service-key": key.encode()})
            assert_error(response, 401, "Unauthorized", "x-service-key")
            assert not any(key in response.text for key in keys)


async def test_the_key_is_checked_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    """A caller without the key learns nothing about its body, not even that it is too large."""
    assert_error(await client.post("/internal/alerts", content=b"x" * (2 << 20)), 401, "Unauthorized")
