"""The health routes."""

import time
from importlib.metadata import version

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.db.migrations import load_migrations
from alerts_service.settings import Settings
from tests.support.api import assert_error, client_for
from tests.support.database import POOLER, settings_for

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/health", "/health/live"])
async def test_a_healthy_service_returns_the_specified_body(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.text) == (200, '{"status":"healthy","service":"as-alerts-service"}')


async def test_details_contain_version_uptime_pool_and_schema(client: httpx.AsyncClient) -> None:
    details = (await client.get("/health/details")).json()
    assert details.pop("uptime_seconds") > 0
    pool = details.pop("pool")
    assert 0 <= pool["idle"] <= pool["open"] <= pool["limit"] == 5
    assert details == {
        "status": "healthy",
        "service": "as-alerts-service",
        "version": version("as-alerts-service"),
        "schema": {"version": len(load_migrations())},
    }


async def test_health_is_503_after_a_second_without_a_response_of_the_database(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    """The process is still live. With a pooler, the lock timeout of 250 ms applies to the health check as well."""
    locker = await asyncpg.connect(settings.database_url)
    async with locker.transaction():
        await locker.execute("LOCK TABLE alerts_service_migrations")
        started = time.monotonic()
        assert_error(await client.get("/health"), 503, "Service unavailable", "the database does not answer")
        assert (0.2 if POOLER else 0.9) < time.monotonic() - started < 1.5
        assert (await client.get("/health/live")).status_code == 200
    await locker.close()
    assert (await client.get("/health")).status_code == 200


async def test_health_is_503_if_the_schema_version_cannot_be_read(empty_database: str) -> None:
    """The process is still live."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        connection = await asyncpg.connect(empty_database)
        await connection.execute("ALTER TABLE alerts_service_migrations RENAME TO elsewhere")
        await connection.close()
        for path in ("/health", "/health/details"):
            assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
        assert (await client.get("/health/live")).status_code == 200
