"""The list of a tenant's alerts: order, filters, pages and search."""

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
from tests.support.api import assert_error, create_alert, get_pages, transition
from tests.support.asgi import Input, answer
from tests.support.factories import CreateAlertFactory, NoteRequestFactory

pytestmark = pytest.mark.anyio

# 60 alerts of each status and severity, in random order. Several were created at the same time.
INSERT_ALERTS = """
INSERT INTO alerts (tenant_id, rule_name, message, status, severity, created_at, acknowledged_at, resolved_at)
SELECT $1, 'r', 'm', status, severity, timestamptz '2026-01-01 00:00+00' + n * 7919 % 311 * interval '1 second',
    CASE WHEN status <> 'triggered' THEN now() END, CASE WHEN status = 'resolved' THEN now() END
FROM generate_series(1, 60) AS n,
    unnest(ARRAY['triggered', 'acknowledged', 'resolved']) AS status,
    unnest(ARRAY['low', 'medium', 'high', 'critical']) AS severity
RETURNING id, created_at, status, severity
"""


async def list_alerts(client: httpx.AsyncClient, tenant: UUID, **filters: str) -> list[dict[str, Any]]:
    response = await client.get("/alerts", params={"tenant_id": str(tenant), **filters})
    assert response.status_code == 200
    alerts: list[dict[str, Any]] = response.json()
    return alerts


async def list_pages(client: httpx.AsyncClient, tenant: UUID, **filters: str) -> list[list[dict[str, Any]]]:
    return await get_pages(client, "/alerts?" + urlencode({"tenant_id": tenant, **filters}))


def ids_of(pages: list[list[dict[str, Any]]]) -> list[str]:
    return [alert["id"] for page in pages for alert in page]


async def test_the_list_of_a_tenant_without_alerts_is_empty(client: httpx.AsyncClient, tenant: UUID) -> None:
    assert await list_alerts(client, tenant) == []


async def test_the_newest_alert_is_first(client: httpx.AsyncClient, tenant: UUID) -> None:
    alerts = [await create_alert(client, tenant, message=str(number)) for number in range(3)]
    assert await list_alerts(client, tenant) == alerts[::-1]


async def test_a_list_holds_alerts_of_its_tenant_only(client: httpx.AsyncClient, tenant: UUID) -> None:
    await create_alert(client, tenant)
    other = await create_alert(client, uuid4())
    assert [alert["id"] for alert in await list_alerts(client, UUID(other["tenant_id"]))] == [other["id"]]


async def test_the_status_and_severity_filters_can_be_combined(client: httpx.AsyncClient, tenant: UUID) -> None:
    low, high, both = [await create_alert(client, tenant, severity=severity) for severity in ("low", "high", "high")]
    await transition(client, low, "acknowledge")
    await transition(client, both, "acknowledge")

    async def ids(**filters: str) -> list[str]:
        return [alert["id"] for alert in await list_alerts(client, tenant, **filters)]

    assert await ids(status="acknowledged") == [both["id"], low["id"]]
    assert await ids(severity="high") == [both["id"], high["id"]]
    assert await ids(status="acknowledged", severity="high") == [both["id"]]
    assert await ids(status="resolved") == []


async def test_fifty_alerts_are_one_page_without_a_link(client: httpx.AsyncClient, tenant: UUID) -> None:
    for _ in range(50):
        await create_alert(client, tenant)
    response = await client.get("/alerts", params={"tenant_id": str(tenant)})
    assert len(response.json()) == 50
    assert "link" not in response.headers


async def test_an_alert_has_the_same_bytes_in_a_list_and_alone(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID
) -> None:
    """PostgreSQL writes the JSON of a list, msgspec that of one alert. Texts are random; times have 0 to 6 decimals."""
    alerts = [
        await create_alert(client, tenant, **to_builtins(CreateAlertFactory.build(tenant_id=tenant))) for _ in range(30)
    ]
    for alert, verb in zip(alerts, ("acknowledge", "resolve") * 10, strict=False):
        await transition(client, alert, verb, NoteRequestFactory.build().note)
    for n, microseconds in enumerate((0, 1, 10, 100_000, 120_000, 999_990)):
        time = "date_trunc('second', created_at) + $2 * interval '1 microsecond'"
        sql = f"UPDATE alerts SET created_at = {time} WHERE id = $1"
        await connection.execute(sql, UUID(alerts[n]["id"]), microseconds)
    alert_list = await client.get("/alerts", params={"tenant_id": str(tenant)})
    single = [(await client.get(f"/alerts/{alert['id']}")).content for alert in alert_list.json()]
    assert alert_list.content == b"[" + b",".join(single) + b"]"
    assert len(single) == 30


@pytest.mark.parametrize("status", [None, "triggered", "resolved"])
@pytest.mark.parametrize("severity", [None, "low", "critical"])
async def test_the_pages_of_a_status_and_severity_hold_each_match_once(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID, status: str | None, severity: str | None
) -> None:
    rows = await connection.fetch(INSERT_ALERTS, tenant)
    matches = [row for row in rows if status in (None, row["status"]) and severity in (None, row["severity"])]
    matches.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    filters = {name: value for name, value in (("status", status), ("severity", severity)) if value}
    ids = ids_of(await list_pages(client, tenant, **filters))
    assert ids == [str(row["id"]) for row in matches]
    assert len(ids) > 50


# The values of each filter, and the equivalent SQL condition.
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
SINGLE_FILTERS = [{name: value} for name, values in CONDITIONS.items() for value in values]
PAIRS = [{**one, **other} for one, other in combinations(SINGLE_FILTERS, 2) if one.keys() != other.keys()]
ALL_FILTERS = {name: next(iter(values)) for name, values in CONDITIONS.items()}


@pytest.fixture(scope="module")
async def mixed_alerts(settings: Settings) -> AsyncIterator[tuple[UUID, Connection]]:
    """A tenant with alerts of three rules and different messages, and a connection. No test changes the alerts."""
    tenant, connection = uuid4(), await asyncpg.connect(settings.database_url)
    for rule, message in (("a_rule", "Call back"), ("a_", "BACK! To call back"), ("b", "calling")):
        await connection.fetch(INSERT_ALERTS, tenant)
        set_texts = "UPDATE alerts SET rule_name = $2, message = $3 || ' ' || ascii(id::text) % 9"
        await connection.execute(f"{set_texts} WHERE tenant_id = $1 AND rule_name = 'r'", tenant, rule, message)
    yield tenant, connection
    await connection.close()


@pytest.mark.parametrize("filters", [*SINGLE_FILTERS, *PAIRS, ALL_FILTERS], ids=urlencode)
async def test_the_pages_of_combined_filters_hold_each_match_once(
    client: httpx.AsyncClient, mixed_alerts: tuple[UUID, Connection], filters: dict[str, str]
) -> None:
    tenant, connection = mixed_alerts
    conditions = " AND ".join(f"({CONDITIONS[name][value]})" for name, value in filters.items())
    rows = await connection.fetch(
        f"SELECT id FROM alerts WHERE tenant_id = $1 AND {conditions} ORDER BY created_at DESC, id DESC", tenant
    )
    pages = await list_pages(client, tenant, **filters)
    assert ids_of(pages) == [str(row["id"]) for row in rows]
    assert all(len(page) == 50 for page in pages[:-1]) or "q" in filters
    assert rows


async def test_links_lead_through_all_pages_and_keep_the_filters(client: httpx.AsyncClient, tenant: UUID) -> None:
    alerts = [await create_alert(client, tenant, severity="high") for _ in range(120)]
    await create_alert(client, tenant, severity="low")
    pages = await list_pages(client, tenant, severity="high")
    assert [len(page) for page in pages] == [50, 50, 20]
    assert ids_of(pages) == ids_of([alerts])[::-1]


async def test_an_alert_created_between_two_pages_does_not_shift_them(client: httpx.AsyncClient, tenant: UUID) -> None:
    alerts = [await create_alert(client, tenant) for _ in range(60)]
    first_page = await client.get("/alerts", params={"tenant_id": str(tenant)})
    await create_alert(client, tenant)
    second_page = await client.get(first_page.links["next"]["url"])
    assert ids_of([first_page.json(), second_page.json()]) == ids_of([alerts])[::-1]


async def test_a_cursor_gives_no_access_to_another_tenant(client: httpx.AsyncClient, tenant: UUID) -> None:
    """With another tenant_id, a cursor lists the alerts of that tenant."""
    for _ in range(51):
        await create_alert(client, tenant)
    link = (await client.get("/alerts", params={"tenant_id": str(tenant)})).links["next"]["url"]
    assert len((await client.get(link)).json()) == 1
    other = await client.get(link.replace(str(tenant), str(uuid4())))
    assert (other.status_code, other.json()) == (200, [])


async def test_alerts_created_at_the_same_time_appear_once_each(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID
) -> None:
    sql = "INSERT INTO alerts (tenant_id, rule_name, message) SELECT $1, 'r', 'm' FROM generate_series(1, 120)"
    await connection.execute(sql, tenant)
    ids = ids_of(await list_pages(client, tenant))
    assert (len(ids), len(set(ids))) == (120, 120)
    assert ids == sorted(ids, reverse=True)


async def test_the_next_link_includes_the_root_path(app: AlertsApp, client: httpx.AsyncClient, tenant: UUID) -> None:
    for _ in range(51):
        await create_alert(client, tenant)
    request = Input("GET", b"/alerts", f"tenant_id={tenant}".encode(), [], b"")
    _, headers, _ = await answer(app, request, root_path="/api")
    assert headers[b"link"].startswith(b"</api/alerts?tenant_id=")


async def test_a_page_of_a_search_examines_at_most_1000_alerts(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID
) -> None:
    """The link continues behind the last examined alert, whether it matches or not."""
    sql = (
        "INSERT INTO alerts (tenant_id, rule_name, message, created_at)"
        " SELECT $1, 'r', CASE WHEN n IN (1000, 1001, 2001) THEN 'needle' ELSE 'hay' END,"
        " timestamptz '2026-01-01 00:00+00' - n * interval '1 second' FROM generate_series(1, 2001) AS n"
    )
    await connection.execute(sql, tenant)
    assert [len(page) for page in await list_pages(client, tenant, q="needle")] == [1, 1, 1]
    assert [len(page) for page in await list_pages(client, tenant, q="hay", rule_name="r")][:3] == [50, 50, 50]
    assert [len(page) for page in await list_pages(client, tenant, q="straw")] == [0, 0, 0]
    assert [len(page) for page in await list_pages(client, tenant, q="!?")] == [0]


async def test_a_page_of_a_search_reads_at_most_200_kb_of_messages(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The pages together still hold all matches."""
    for number in range(30):
        await create_alert(client, tenant, message="hay " * 2_490 + ("needle" if number % 10 == 0 else "straw"))
    assert [len(page) for page in await list_pages(client, tenant, q="needle")] == [2, 1]


async def test_any_text_is_a_valid_query(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Operators of other query languages are punctuation between words."""
    alert = await create_alert(
        client, tenant, message="50% of 'all' & more | \\ <b>100</b> ünïcode 💥", rule_name="x:*"
    )
    for query in ("50", "'all'", "& more", "b:* 100", "ünïcode", "x", "!x", "all or"):
        assert await list_pages(client, tenant, q=query) == [[alert]], query
    for query in ("|", "\\", "(", '"', "💥"):
        assert await list_pages(client, tenant, q=query) == [[]], query
    assert await list_pages(client, tenant, q="50 ALL ünïcode x") == [[alert]]


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
async def test_an_invalid_filter_is_422_with_its_name_and_the_reason(
    client: httpx.AsyncClient, tenant: UUID, query: str, detail: str
) -> None:
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
