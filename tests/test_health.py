"""The health routes."""

from importlib.metadata import version

import httpx
import pytest

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
        "schema": {"version": 2},
    }
