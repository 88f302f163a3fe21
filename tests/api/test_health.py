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
async def test_healthy(client: httpx.AsyncClient, path: str) -> None:
    """A healthy service answers the specification's body to the letter."""
    response = await client.get(path)
    assert (response.status_code, response.text) == (200, '{"status":"healthy","service":"as-alerts-service"}')


async def test_details(client: httpx.AsyncClient) -> None:
    """The details name version, uptime, pool and schema."""
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


async def test_health_gives_up_after_a_second(client: httpx.AsyncClient, settings: Settings) -> None:
    """When the database does not get round to the query, health is 503 after a second; the process still lives.

    A pooler tells its sessions to wait for a lock as short as all others do.
    """
    locker = await asyncpg.connect(settings.database_url)
    async with locker.transaction():
        await locker.execute("LOCK TABLE alerts_service_migrations")
        started = time.monotonic()
        assert_error(await client.get("/health"), 503, "Service unavailable", "the database does not answer")
        assert (0.2 if POOLER else 0.9) < time.monotonic() - started < 1.5
        assert (await client.get("/health/live")).status_code == 200
    await locker.close()
    assert (await client.get("/health")).status_code == 200


async def test_a_ledger_that_cannot_be_read(empty_database: str) -> None:
    """Where the service may not read, or does not find, how far the schema is, health is 503; the process lives."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        connection = await asyncpg.connect(empty_database)
        await connection.execute("ALTER TABLE alerts_service_migrations RENAME TO elsewhere")
        await connection.close()
        for path in ("/health", "/health/details"):
            assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
        assert (await client.get("/health/live")).status_code == 200
