"""Counting a tenant's alerts."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.db.queries import load_queries
from alerts_service.settings import Settings
from tests.support.api import create_alert, transition
from tests.support.processes import run

pytestmark = pytest.mark.anyio

STATUSES = ("triggered", "acknowledged", "resolved")


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def test_nothing_counts_zero(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A tenant without alerts counts zero, in exactly the specification's four keys."""
    response = await client.get(f"/stats/{tenant}")
    assert response.status_code == 200
    assert response.json() == {"total": 0, "triggered": 0, "acknowledged": 0, "resolved": 0}
    assert list(response.json()) == ["total", "triggered", "acknowledged", "resolved"]


async def test_counts_by_status(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Every alert counts once, in its present status, for its own tenant."""
    alerts = [await create_alert(client, tenant) for _ in range(6)]
    await create_alert(client, uuid4())
    for alert in alerts[:3]:
        await transition(client, alert, "acknowledge")
    await transition(client, alerts[0], "resolve")
    counts = (await client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 6, "triggered": 3, "acknowledged": 2, "resolved": 1}


async def test_counts_are_exact_whoever_races(client: httpx.AsyncClient) -> None:
    """However many callers record, acknowledge and resolve at once, each move counts once."""
    tenants = [uuid4() for _ in range(5)]
    alerts = await asyncio.gather(*(create_alert(client, tenant) for tenant in tenants for _ in range(20)))
    await asyncio.gather(
        *(transition(client, alert, "acknowledge") for alert in alerts[::2] for _ in range(3)),
        *(transition(client, alert, "resolve") for alert in alerts[::5] for _ in range(3)),
        *(create_alert(client, tenant) for tenant in tenants),
    )
    for tenant in tenants:
        counts = (await client.get(f"/stats/{tenant}")).json()
        listed = (await client.get("/alerts", params={"tenant_id": str(tenant)})).json()
        statuses = [alert["status"] for alert in listed]
        assert counts == {"total": 21, **{status: statuses.count(status) for status in STATUSES}}
        assert statuses.count("resolved") == 4


async def test_a_refused_move_does_not_count(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A move that was made before, or that the workflow or the owner forbids, changes no count."""
    alert = await create_alert(client, tenant)
    await transition(client, alert, "resolve", "done")
    for verb, note in (("resolve", "done"), ("resolve", "again"), ("acknowledge", None)):
        await transition(client, alert, verb, note)
    await client.put(
        f"/alerts/{(await create_alert(client, tenant))['id']}/resolve", params={"tenant_id": str(uuid4())}
    )
    counts = (await client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 2, "triggered": 1, "acknowledged": 0, "resolved": 1}


def test_wrong_counts_are_corrected(tmp_path: Path, settings: Settings, tenant: UUID) -> None:
    """`recount` makes counts agree with the alerts again, also those of tenants that have none left."""
    url = str(settings.database_url)
    run(tmp_path, "recount", DATABASE_URL=url)
    alert = f"INSERT INTO alerts (tenant_id, rule_name, message) VALUES ('{tenant}', 'r', 'm')"
    nobody = f"INSERT INTO alert_counts (tenant_id, lane, resolved) VALUES ('{uuid4()}', 3, 7)"
    asyncio.run(execute(url, alert, nobody))
    assert run(tmp_path, "recount", DATABASE_URL=url).stdout == "tenants with corrected counts: 2\n"
    assert run(tmp_path, "recount", DATABASE_URL=url).stdout == "tenants with corrected counts: 0\n"
    asyncio.run(execute(url, f"DELETE FROM alerts WHERE tenant_id = '{tenant}'"))
    assert run(tmp_path, "recount", DATABASE_URL=url).stdout == "tenants with corrected counts: 1\n"


async def test_counting_again_while_others_write(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """Counting again disturbs no writer and counts nothing twice."""
    connection = await asyncpg.connect(settings.database_url)
    recount = load_queries()["stats/recount"].sql
    writers = asyncio.gather(*(create_alert(client, tenant) for _ in range(200)))
    while not writers.done():
        await connection.fetch(recount)
    await connection.close()
    assert (await client.get(f"/stats/{tenant}")).json()["total"] == len(await writers) == 200
