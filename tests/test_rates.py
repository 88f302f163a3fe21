"""Rate limits, of tenants and of service keys."""

from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.database import Database
from alerts_service.exchange import Service
from alerts_service.settings import Settings
from tests.calls import assert_error, create
from tests.conftest import KEY, client_of

pytestmark = pytest.mark.anyio


def limited(app: Service, *, tenant: str | None = None, key: str | None = None) -> httpx.AsyncClient:
    """Make a client of an application with limits, on the database of another."""
    database: Database = app.state.database
    settings = Settings(internal_service_key=KEY, rate_limit_tenant=tenant, rate_limit_key=key)
    return client_of(create_app(settings, database))


async def test_a_tenant_that_calls_too_often(app: Service, tenant: UUID) -> None:
    """A tenant's calls count wherever its id is given; the one too many is told the limit and when to come again."""
    async with limited(app, tenant="4/hour") as client:
        alert = await create(client, tenant)
        for path in (f"/alerts?tenant_id={tenant}", f"/stats/{tenant}", f"/alerts/{alert['id']}?tenant_id={tenant}"):
            assert (await client.get(path)).status_code == 200
        refused = await client.get(f"/stats/{tenant}")
        assert_error(refused, 429, "Too many requests", "the limit of a tenant is 4/hour")
        assert 890 <= int(refused.headers["retry-after"]) <= 900
        assert (await client.get(f"/stats/{uuid4()}")).status_code == 200
        assert (await client.get(f"/alerts/{alert['id']}")).status_code == 200


async def test_a_request_counts_once(app: Service, tenant: UUID) -> None:
    """A request that takes two statements is one call."""
    async with limited(app, tenant="4/hour") as client:
        path = f"/alerts/{(await create(client, tenant))['id']}/resolve?tenant_id={tenant}"
        assert [(await client.put(path)).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_a_service_key_that_calls_too_often(app: Service, tenant: UUID) -> None:
    """Calls with a service key have a limit of their own, which a wrong key does not use up."""
    async with limited(app, key="2/minute") as client:
        body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}

        async def call(key: str) -> httpx.Response:
            return await client.post("/internal/alerts", json=body, headers={"X-Service-Key": key})

        assert [(await call(key)).status_code for key in ("no", "no", "no", KEY, KEY)] == [401, 401, 401, 201, 201]
        refused = await call(KEY)
        assert_error(refused, 429, "Too many requests", "the limit of a service key is 2/minute")
        assert 25 <= int(refused.headers["retry-after"]) <= 30
        await create(client, tenant)


async def test_no_limits_unless_they_are_set(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Without a limit everybody may call as often as they like."""
    assert {(await client.get(f"/stats/{tenant}")).status_code for _ in range(50)} == {200}
