"""Statistics: the number of a tenant's alerts by status, and the command that corrects the counters."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.db.pool import Connection
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


async def test_the_counts_of_a_tenant_without_alerts_are_zero(client: httpx.AsyncClient, tenant: UUID) -> None:
    response = await client.get(f"/stats/{tenant}")
    assert response.status_code == 200
    assert response.json() == {"total": 0, "triggered": 0, "acknowledged": 0, "resolved": 0}
    assert list(response.json()) == ["total", "triggered", "acknowledged", "resolved"]


async def test_each_alert_counts_once_in_its_present_status(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Alerts of other tenants do not count."""
    alerts = [await create_alert(client, tenant) for _ in range(6)]
    await create_alert(client, uuid4())
    for alert in alerts[:3]:
        await transition(client, alert, "acknowledge")
    await transition(client, alerts[0], "resolve")
    counts = (await client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 6, "triggered": 3, "acknowledged": 2, "resolved": 1}


async def test_counts_are_exact_after_concurrent_creates_and_transitions(client: httpx.AsyncClient) -> None:
    """Each transition is requested three times."""
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


async def test_repeated_and_rejected_transitions_do_not_change_the_counts(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    alert = await create_alert(client, tenant)
    await transition(client, alert, "resolve", "done")
    for verb, note, status in (("resolve", "done", 200), ("resolve", "other note", 409), ("acknowledge", None, 409)):
        assert (await transition(client, alert, verb, note)).status_code == status
    triggered = await create_alert(client, tenant)
    foreign = await client.put(f"/alerts/{triggered['id']}/resolve", params={"tenant_id": str(uuid4())})
    assert foreign.status_code == 404
    counts = (await client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 2, "triggered": 1, "acknowledged": 0, "resolved": 1}


def test_the_recount_command_corrects_wrong_counts(tmp_path: Path, settings: Settings, tenant: UUID) -> None:
    """Counts of a tenant that has no alert left are corrected too."""
    url = str(settings.database_url)
    run(tmp_path, "recount", DATABASE_URL=url)
    uncounted_alert = f"INSERT INTO alerts (tenant_id, rule_name, message) VALUES ('{tenant}', 'r', 'm')"
    count_without_alerts = f"INSERT INTO alert_counts (tenant_id, lane, resolved) VALUES ('{uuid4()}', 3, 7)"
    asyncio.run(execute(url, uncounted_alert, count_without_alerts))
    assert run(tmp_path, "recount", DATABASE_URL=url).stdout == "tenants with corrected counts: 2\n"
    assert run(tmp_path, "recount", DATABASE_URL=url).stdout == "tenants with corrected counts: 0\n"
    asyncio.run(execute(url, f"DELETE FROM alerts WHERE tenant_id = '{tenant}'"))
    assert run(tmp_path, "recount", DATABASE_URL=url).stdout == "tenants with corrected counts: 1\n"


async def test_recounting_during_concurrent_creates_keeps_the_counts_exact(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID
) -> None:
    recount = load_queries()["stats/recount"].sql
    creates = asyncio.gather(*(create_alert(client, tenant) for _ in range(200)))
    while not creates.done():
        await connection.fetch(recount)
    assert (await client.get(f"/stats/{tenant}")).json()["total"] == len(await creates) == 200
