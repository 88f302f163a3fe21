"""Listing a tenant's alerts."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec import to_builtins

from alerts_service.exchange import Service
from alerts_service.settings import Settings
from tests.asgi import Input, answer
from tests.calls import create, move
from tests.factories import CreateAlertFactory, NoteRequestFactory

pytestmark = pytest.mark.anyio

# Alerts of every status and severity, in no order, several of one moment.
MIXED = """
INSERT INTO alerts (tenant_id, rule_name, message, status, severity, created_at, acknowledged_at, resolved_at)
SELECT $1, 'r', 'm', status, severity, timestamptz '2026-01-01 00:00+00' + n * 7919 % 311 * interval '1 second',
    CASE WHEN status <> 'triggered' THEN now() END, CASE WHEN status = 'resolved' THEN now() END
FROM generate_series(1, 60) AS n,
    unnest(ARRAY['triggered', 'acknowledged', 'resolved']) AS status,
    unnest(ARRAY['low', 'medium', 'high', 'critical']) AS severity
RETURNING id, created_at, status, severity
"""


async def listed(client: httpx.AsyncClient, tenant: UUID, **filters: str) -> list[dict[str, Any]]:
    response = await client.get("/alerts", params={"tenant_id": str(tenant), **filters})
    assert response.status_code == 200
    alerts: list[dict[str, Any]] = response.json()
    return alerts


async def test_a_tenant_without_alerts(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A tenant without alerts, known or not, has an empty list."""
    assert await listed(client, tenant) == []


async def test_newest_first(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The newest alert comes first, each as it is answered elsewhere."""
    alerts = [await create(client, tenant, message=str(number)) for number in range(3)]
    assert await listed(client, tenant) == alerts[::-1]


async def test_another_tenant_sees_nothing(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A list holds the alerts of its tenant only."""
    await create(client, tenant)
    other = await create(client, uuid4())
    assert [alert["id"] for alert in await listed(client, UUID(other["tenant_id"]))] == [other["id"]]


async def test_filters(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The status and severity filters narrow a list, together too."""
    low, high, both = [await create(client, tenant, severity=severity) for severity in ("low", "high", "high")]
    await move(client, low, "acknowledge")
    await move(client, both, "acknowledge")

    async def ids(**filters: str) -> list[str]:
        return [alert["id"] for alert in await listed(client, tenant, **filters)]

    assert await ids(status="acknowledged") == [both["id"], low["id"]]
    assert await ids(severity="high") == [both["id"], high["id"]]
    assert await ids(status="acknowledged", severity="high") == [both["id"]]
    assert await ids(status="resolved") == []


async def test_fifty_are_one_page(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Fifty alerts are one page, and no link leads on."""
    for _ in range(50):
        await create(client, tenant)
    response = await client.get("/alerts", params={"tenant_id": str(tenant)})
    assert len(response.json()) == 50
    assert "link" not in response.headers


async def test_an_alert_reads_the_same_everywhere(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """An alert's bytes are the same in a list and alone, whatever its texts hold and wherever its times end."""
    alerts = [
        await create(client, tenant, **to_builtins(CreateAlertFactory.build(tenant_id=tenant))) for _ in range(30)
    ]
    for alert, verb in zip(alerts, ("acknowledge", "resolve") * 10, strict=False):
        await move(client, alert, verb, NoteRequestFactory.build().note)
    connection = await asyncpg.connect(settings.database_url)
    for n, micros in enumerate((0, 1, 10, 100_000, 120_000, 999_990)):
        moment = "date_trunc('second', created_at) + $2 * interval '1 microsecond'"
        sql = f"UPDATE alerts SET created_at = {moment} WHERE id = $1"
        await connection.execute(sql, UUID(alerts[n]["id"]), micros)
    await connection.close()
    together = await client.get("/alerts", params={"tenant_id": str(tenant)})
    alone = [(await client.get(f"/alerts/{alert['id']}")).content for alert in together.json()]
    assert together.content == b"[" + b",".join(alone) + b"]"
    assert len(alone) == 30


FILTERS = [(status, severity) for status in (None, "triggered", "resolved") for severity in (None, "low", "critical")]


@pytest.mark.parametrize(("status", "severity"), FILTERS)
async def test_pages_of_every_filter(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID, status: str | None, severity: str | None
) -> None:
    """Whatever the filter, the pages together hold each alert that fits once, newest first."""
    connection = await asyncpg.connect(settings.database_url)
    rows = await connection.fetch(MIXED, tenant)
    await connection.close()
    fitting = [r for r in rows if status in (None, r["status"]) and severity in (None, r["severity"])]
    expected = sorted(fitting, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    found: list[dict[str, Any]] = []
    filters = {"status": status, "severity": severity}
    target = "/alerts?" + urlencode({"tenant_id": tenant} | {k: v for k, v in filters.items() if v})
    while target:
        response = await client.get(target)
        found += response.json()
        target = response.links.get("next", {}).get("url", "")
    assert [alert["id"] for alert in found] == [str(row["id"]) for row in expected]
    assert len(found) > 50


async def test_links_lead_through_all_pages(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Past fifty, each page links to the next, and together they hold every alert once, filters kept."""
    alerts = [await create(client, tenant, severity="high") for _ in range(120)]
    await create(client, tenant, severity="low")
    pages, target = [], f"/alerts?tenant_id={tenant}&severity=high"
    while target:
        response = await client.get(target)
        pages.append(response.json())
        target = response.links.get("next", {}).get("url", "")
    assert [len(page) for page in pages] == [50, 50, 20]
    assert [alert["id"] for page in pages for alert in page] == [alert["id"] for alert in alerts][::-1]


async def test_new_alerts_do_not_move_the_pages(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert that is recorded while somebody turns the pages neither repeats nor hides another."""
    first = [await create(client, tenant) for _ in range(60)]
    response = await client.get("/alerts", params={"tenant_id": str(tenant)})
    await create(client, tenant)
    rest = (await client.get(response.links["next"]["url"])).json()
    assert [alert["id"] for alert in [*response.json(), *rest]] == [alert["id"] for alert in first][::-1]


async def test_a_cursor_opens_no_other_tenant(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A cursor is a place, not a permission: with another tenant it lists that tenant's alerts."""
    for _ in range(51):
        await create(client, tenant)
    link = (await client.get("/alerts", params={"tenant_id": str(tenant)})).links["next"]["url"]
    assert (await client.get(link.replace(str(tenant), str(uuid4())))).json() == []


async def test_alerts_of_one_moment_are_paged_once_each(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    """Alerts recorded in one and the same moment each appear once as somebody turns the pages."""
    connection = await asyncpg.connect(settings.database_url)
    sql = "INSERT INTO alerts (tenant_id, rule_name, message) SELECT $1, 'r', 'm' FROM generate_series(1, 120)"
    await connection.execute(sql, tenant)
    await connection.close()
    ids: list[str] = []
    target = f"/alerts?tenant_id={tenant}"
    while target:
        response = await client.get(target)
        ids += [alert["id"] for alert in response.json()]
        target = response.links.get("next", {}).get("url", "")
    assert (len(ids), len(set(ids))) == (120, 120)
    assert ids == sorted(ids, reverse=True)


async def test_the_next_page_below_a_root_path(app: Service, client: httpx.AsyncClient, tenant: UUID) -> None:
    """Where the service is served below a path, the link to the next page leads there."""
    for _ in range(51):
        await create(client, tenant)
    request = Input("GET", b"/alerts", f"tenant_id={tenant}".encode(), [], b"")
    _, headers, _ = await answer(app, request, root_path="/api")
    assert headers[b"link"].startswith(b"</api/alerts?tenant_id=")
