"""Counting a tenant's alerts."""

from uuid import UUID, uuid4

import httpx
import pytest

from tests.calls import create, move

pytestmark = pytest.mark.anyio


async def test_nothing_counts_zero(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A tenant without alerts counts zero, in exactly the specification's four keys."""
    response = await client.get(f"/stats/{tenant}")
    assert response.status_code == 200
    assert response.json() == {"total": 0, "triggered": 0, "acknowledged": 0, "resolved": 0}
    assert list(response.json()) == ["total", "triggered", "acknowledged", "resolved"]


async def test_counts_by_status(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Every alert counts once, in its present status, for its own tenant."""
    alerts = [await create(client, tenant) for _ in range(6)]
    await create(client, uuid4())
    for alert in alerts[:3]:
        await move(client, alert, "acknowledge")
    await move(client, alerts[0], "resolve")
    counts = (await client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 6, "triggered": 3, "acknowledged": 2, "resolved": 1}
