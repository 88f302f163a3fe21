"""Listing a tenant's alerts."""

from collections.abc import AsyncIterator
from itertools import combinations
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from litestar import Request
from msgspec import to_builtins

from alerts_service.db.pool import Connection
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from alerts_service.web.pagination import next_page_link
from tests.support.api import assert_error, create_alert, transition
from tests.support.asgi import Input, answer
from tests.support.factories import CreateAlertFactory, NoteRequestFactory

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
    alerts = [await create_alert(client, tenant, message=str(number)) for number in range(3)]
    assert await listed(client, tenant) == alerts[::-1]


async def test_another_tenant_sees_nothing(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A list holds the alerts of its tenant only."""
    await create_alert(client, tenant)
    other = await create_alert(client, uuid4())
    assert [alert["id"] for alert in await listed(client, UUID(other["tenant_id"]))] == [other["id"]]


async def test_filters(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The status and severity filters narrow a list, together too."""
    low, high, both = [await create_alert(client, tenant, severity=severity) for severity in ("low", "high", "high")]
    await transition(client, low, "acknowledge")
    await transition(client, both, "acknowledge")

    async def ids(**filters: str) -> list[str]:
        return [alert["id"] for alert in await listed(client, tenant, **filters)]

    assert await ids(status="acknowledged") == [both["id"], low["id"]]
    assert await ids(severity="high") == [both["id"], high["id"]]
    assert await ids(status="acknowledged", severity="high") == [both["id"]]
    assert await ids(status="resolved") == []


async def test_fifty_are_one_page(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Fifty alerts are one page, and no link leads on."""
    for _ in range(50):
        await create_alert(client, tenant)
    response = await client.get("/alerts", params={"tenant_id": str(tenant)})
    assert len(response.json()) == 50
    assert "link" not in response.headers


async def test_an_alert_reads_the_same_everywhere(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """An alert's bytes are the same in a list and alone, whatever its texts hold and wherever its times end."""
    alerts = [
        await create_alert(client, tenant, **to_builtins(CreateAlertFactory.build(tenant_id=tenant))) for _ in range(30)
    ]
    for alert, verb in zip(alerts, ("acknowledge", "resolve") * 10, strict=False):
        await transition(client, alert, verb, NoteRequestFactory.build().note)
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


async def pages(client: httpx.AsyncClient, tenant: UUID, **filters: str) -> list[list[dict[str, Any]]]:
    """Every page, as the links lead from the first."""
    found, target = [], "/alerts?" + urlencode({"tenant_id": tenant, **filters})
    while target:
        response = await client.get(target)
        assert response.status_code == 200, response.text
        found.append(response.json())
        target = response.links.get("next", {}).get("url", "")
    return found


# Each filter, and the condition on alerts that it means.
CONDITIONS = {
    "status": {
        "acknowledged": "status = 'acknowledged'",
        "resolved,triggered": "status <> 'acknowledged'",
        "triggered,acknowledged,resolved": "true",
    },
    "severity": {"low,critical,low": "severity IN ('low', 'critical')"},
    "rule_name": {"a_rule": "rule_name = 'a_rule'", "a_": "rule_name = 'a_'"},
    "created_after": {"2026-01-01T01:00:41+01:00": "created_at >= '2026-01-01 00:00:41+00'"},
    "created_before": {"2026-01-01T00:04:02Z": "created_at < '2026-01-01 00:04:02+00'"},
    "q": {
        "back": "message ~* '\\mback\\M'",
        '"call back" -5': "message ~* 'call back' AND message !~ '\\m5\\M'",
        "rule or to": "rule_name ~ 'rule' OR message ~ 'To'",
        "1 or 2": "message ~ '\\m[12]\\M'",
    },
}
EACH = [{name: value} for name, values in CONDITIONS.items() for value in values]
PAIRS = [{**one, **other} for one, other in combinations(EACH, 2) if one.keys() != other.keys()]
ALL = {name: next(iter(values)) for name, values in CONDITIONS.items()}


@pytest.fixture(scope="module")
async def several(settings: Settings) -> AsyncIterator[tuple[UUID, Connection]]:
    """A tenant with alerts of two rules and many words, of which nothing changes."""
    tenant, connection = uuid4(), await asyncpg.connect(settings.database_url)
    for rule, message in (("a_rule", "Call back"), ("a_", "BACK! To call back"), ("b", "calling")):
        await connection.fetch(MIXED, tenant)
        named = "UPDATE alerts SET rule_name = $2, message = $3 || ' ' || ascii(id::text) % 9"
        await connection.execute(f"{named} WHERE tenant_id = $1 AND rule_name = 'r'", tenant, rule, message)
    yield tenant, connection
    await connection.close()


@pytest.mark.parametrize("filters", [*EACH, *PAIRS, ALL], ids=urlencode)
async def test_filters_together(
    client: httpx.AsyncClient, several: tuple[UUID, Connection], filters: dict[str, str]
) -> None:
    """Whatever filters come together, the pages hold each alert that fits all of them once, newest first."""
    tenant, connection = several
    conditions = " AND ".join(f"({CONDITIONS[name][value]})" for name, value in filters.items())
    rows = await connection.fetch(
        f"SELECT id FROM alerts WHERE tenant_id = $1 AND {conditions} ORDER BY created_at DESC, id DESC", tenant
    )
    found = await pages(client, tenant, **filters)
    assert [alert["id"] for page in found for alert in page] == [str(row["id"]) for row in rows]
    assert all(len(page) == 50 for page in found[:-1]) or "q" in filters
    assert rows


async def test_links_lead_through_all_pages(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Past fifty, each page links to the next, and together they hold every alert once, filters kept."""
    alerts = [await create_alert(client, tenant, severity="high") for _ in range(120)]
    await create_alert(client, tenant, severity="low")
    pages, target = [], f"/alerts?tenant_id={tenant}&severity=high"
    while target:
        response = await client.get(target)
        pages.append(response.json())
        target = response.links.get("next", {}).get("url", "")
    assert [len(page) for page in pages] == [50, 50, 20]
    assert [alert["id"] for page in pages for alert in page] == [alert["id"] for alert in alerts][::-1]


async def test_new_alerts_do_not_move_the_pages(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert that is recorded while somebody turns the pages neither repeats nor hides another."""
    first = [await create_alert(client, tenant) for _ in range(60)]
    response = await client.get("/alerts", params={"tenant_id": str(tenant)})
    await create_alert(client, tenant)
    rest = (await client.get(response.links["next"]["url"])).json()
    assert [alert["id"] for alert in [*response.json(), *rest]] == [alert["id"] for alert in first][::-1]


async def test_a_cursor_opens_no_other_tenant(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A cursor is a place, not a permission: with another tenant it lists that tenant's alerts."""
    for _ in range(51):
        await create_alert(client, tenant)
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


async def test_the_next_page_below_a_root_path(app: AlertsApp, client: httpx.AsyncClient, tenant: UUID) -> None:
    """Where the service is served below a path, the link to the next page leads there."""
    for _ in range(51):
        await create_alert(client, tenant)
    request = Input("GET", b"/alerts", f"tenant_id={tenant}".encode(), [], b"")
    _, headers, _ = await answer(app, request, root_path="/api")
    assert headers[b"link"].startswith(b"</api/alerts?tenant_id=")


async def test_a_page_of_a_search_has_an_end(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """A page with words is done after 1,000 alerts, found or not, and its link leads to those behind."""
    connection = await asyncpg.connect(settings.database_url)
    sql = (
        "INSERT INTO alerts (tenant_id, rule_name, message, created_at)"
        " SELECT $1, 'r', CASE WHEN n IN (1000, 1001, 2001) THEN 'needle' ELSE 'hay' END,"
        " timestamptz '2026-01-01 00:00+00' - n * interval '1 second' FROM generate_series(1, 2001) AS n"
    )
    await connection.execute(sql, tenant)
    await connection.close()
    assert [len(page) for page in await pages(client, tenant, q="needle")] == [1, 1, 1]
    assert [len(page) for page in await pages(client, tenant, q="hay", rule_name="r")][:3] == [50, 50, 50]
    assert [len(page) for page in await pages(client, tenant, q="straw")] == [0, 0, 0]
    assert [len(page) for page in await pages(client, tenant, q="!?")] == [0]


async def test_a_page_of_a_search_reads_no_book(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A page with words is also done after 200 kB of messages, and the pages together still hold what fits."""
    for number in range(30):
        await create_alert(client, tenant, message="hay " * 2_490 + ("needle" if number % 10 == 0 else "straw"))
    assert [len(page) for page in await pages(client, tenant, q="needle")] == [2, 1]


async def test_any_text_can_be_sought(client: httpx.AsyncClient, tenant: UUID) -> None:
    """What is no query in another language is none here: it is words, and signs between them."""
    alert = await create_alert(
        client, tenant, message="50% of 'all' & more | \\ <b>100</b> ünïcode 💥", rule_name="x:*"
    )
    for words in ("50", "'all'", "& more", "|", "\\", "b:* 100", "ÜNÏCODE", "x", "(", '"', "!x", "all or", "💥"):
        found = await pages(client, tenant, q=words)
        assert found in ([[alert]], [[]]), words
    assert await pages(client, tenant, q="50 ALL ünïcode x") == [[alert]]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("status=", 'status: "" is not one of'),
        ("status=triggered,", 'status: "" is not one of'),
        ("status=triggered,open", 'status: "open" is not one of'),
        ("status=triggered&status=resolved", "status: must be given only once"),
        ("severity=low,%20high", 'severity: " high" is not one of'),
        ("rule_name=", "rule_name: must not be empty"),
        ("rule_name=" + "x" * 256, "rule_name: must be at most 255 characters"),
        ("rule_name=%00", "rule_name: must not contain the NUL character"),
        ("q=", "q: must not be empty"),
        ("q=" + "x" * 201, "q: must be at most 200 characters"),
        ("q=a%00", "q: must not contain the NUL character"),
        ("created_after=2026-01-01T00:00:00", "created_after: must have a UTC offset"),
        ("created_before=2026-01-01", "created_before: must be an RFC 3339 time such as 2026-01-05T09:30:00Z"),
        ("created_after=2026-01-01T00:00:00+01:00", "(in a query, write + as %2B)"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "created_before: must be between the years 1 and 9999 in UTC"),
        ("created_after=9999-12-31T23:59:59-14:00", "created_after: must be between the years 1 and 9999 in UTC"),
    ],
)
async def test_wrong_filters(client: httpx.AsyncClient, tenant: UUID, query: str, detail: str) -> None:
    """A filter that makes no sense is refused with its name and the reason."""
    assert_error(await client.get(f"/alerts?tenant_id={tenant}&{query}"), 422, "Validation error", detail)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", "cursor=next"),
        (b"cursor=a", "cursor=next"),
        (b"cursor=a&tenant_id=t", "tenant_id=t&cursor=next"),
        (b"&tenant_id=t&cursor=a&&q=x%20y", "tenant_id=t&q=x%20y&cursor=next"),
    ],
)
def test_the_next_page_link_has_no_empty_parameters(query: bytes, expected: str) -> None:
    scope: Any = {"type": "http", "query_string": query, "root_path": "", "path": "/a"}
    request = Request[Any, Any, Any](scope)
    assert next_page_link(request, "next") == {"Link": f'</a?{expected}>; rel="next"'}


@pytest.mark.parametrize("name", ["q", "rule_name"])
async def test_null_is_a_text(client: httpx.AsyncClient, tenant: UUID, name: str) -> None:
    alert = await create_alert(client, tenant, rule_name="null", message="m")
    await create_alert(client, tenant, rule_name="other", message="m")
    response = await client.get("/alerts", params={"tenant_id": str(tenant), name: "null"})
    assert [listed["id"] for listed in response.json()] == [alert["id"]]
