"""No hot statement reads more than it answers with, however the tenants are skewed and whatever is believed of them."""

import json
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from alerts_service.alerts.search_terms import compile_search_terms
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection, session_settings
from alerts_service.db.queries import load_queries
from tests.support.database import POOLER, fresh_database

pytestmark = pytest.mark.anyio

MOST = 500_000
BIG, SMALL, NOBODY = UUID(int=0), UUID(int=1), UUID(int=10**6)
PAGE, LOOKED_AT = 51, 1_001
DESCENT = 6  # blocks of an index on the way to a piece, and of what lies across them
ALERTS = """
INSERT INTO alerts (tenant_id, rule_name, message, severity, created_at)
SELECT CASE n % 2 WHEN 0 THEN '{big}'::uuid ELSE lpad(to_hex(n % 100), 32, '0')::uuid END, 'r', 'm', '{severity}',
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
FROM generate_series({first}, {last}) AS n
"""
ONE_EACH = """
INSERT INTO alerts (tenant_id, rule_name, message, severity)
SELECT gen_random_uuid(), 'r' || n % 9, 'm', (ARRAY['low', 'medium', 'high', 'critical'])[1 + n % 4]
FROM generate_series(1, 20000) AS n
"""
FILTERS = [(None, None), ("triggered", None), (None, "medium"), ("resolved", "critical"), ("acknowledged", "high,low")]
TIMES = [(None, None), ("2026-01-01 03:00+00", None), (None, "2026-01-01 03:00+00"), ("2027-01-01 00:00+00", None)]
PLACES = [(None, None), ("2026-01-01 05:00+00", UUID(int=5))]
EVENTS = """
INSERT INTO alert_events (alert_id, sequence, tenant_id, type, to_status, actor, occurred_at)
SELECT id, n, tenant_id, CASE WHEN n = 103 THEN 'resolved' ELSE 'created' END, 'triggered', 'anonymous', created_at
FROM alerts
CROSS JOIN generate_series(101, 103) AS n
"""
RESOLVED = """
WITH resolved AS (
    INSERT INTO alerts (tenant_id, rule_name, message, status, created_at, resolved_at, version)
    SELECT lpad(to_hex(n % 100), 32, '0')::uuid, 'r', 'm', 'resolved', now() - interval '50 days',
        now() - interval '{days} days' + n * interval '1 second', 2
    FROM generate_series({first}, {last}) AS n
    RETURNING id, tenant_id
)
INSERT INTO alert_events (alert_id, sequence, tenant_id, type, to_status, actor, occurred_at)
SELECT id, sequence, tenant_id, 'created', 'triggered', 'anonymous', now()
FROM resolved, generate_series(1, 2) AS sequence
"""
HOT = {name: query for name, query in load_queries().items() if query.parameters}
EARLY = "planned while there was nothing"
ALIKE = "planned while all was alike"
TINY = "planned while no tenant had more than one"


@pytest.fixture(scope="module", params=[EARLY, ALIKE, TINY])
async def connection(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A connection like the pool's, whose plans were made for something else than what it has to read."""
    async with fresh_database(server_url) as url:
        connection = await asyncpg.connect(url, server_settings=session_settings(pooler=POOLER))
        await migrate(connection)
        await connection.execute("ALTER TABLE alerts SET (autovacuum_enabled = off)")
        if request.param == TINY:
            await connection.execute(f"{ONE_EACH}; ANALYZE alerts")
        if request.param == ALIKE:
            alike = ALERTS.format(big=BIG, severity="critical", first=1, last=20_000)
            await connection.execute(f"{alike}; ANALYZE alerts; ANALYZE alert_counts")
        for name, query in HOT.items():
            types = ", ".join(parameter.type for parameter in query.parameters)
            nothing = ", ".join(f"NULL::{parameter.type}" for parameter in query.parameters)
            await connection.execute(f'PREPARE "{name}" ({types}) AS {query.sql}')
            await connection.execute(f'EXPLAIN EXECUTE "{name}" ({nothing})')
        await connection.execute(ALERTS.format(big=BIG, severity="critical", first=20_001, last=40_000))
        await connection.execute(ALERTS.format(big=BIG, severity="medium", first=-10, last=0))
        await connection.execute(EVENTS)
        await connection.execute(RESOLVED.format(days=40, first=1, last=2000))
        yield connection
        await connection.close()


async def rows_read(connection: Connection, name: str, *arguments: object) -> int:
    """How many rows of tables a statement reads for arrays of these."""
    return rows(await read(connection, name, *arguments))


def rows(nodes: list[dict[str, Any]]) -> int:
    return sum(int((node["Actual Rows"] + removed(node)) * node["Actual Loops"]) for node in nodes)


def blocks(nodes: list[dict[str, Any]]) -> int:
    """Count what was read of tables and indexes: an entry of an index that is passed by is no row."""
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in nodes)


async def read(connection: Connection, name: str, *arguments: object) -> list[dict[str, Any]]:
    """Run a statement for arrays of these, by the one plan that was made for all values, and tell what it scanned."""
    pairs = zip(arguments, HOT[name].parameters, strict=True)
    values = ", ".join(f"ARRAY[{', '.join(literals(argument))}]::{parameter.type}" for argument, parameter in pairs)
    transaction = connection.transaction()
    await transaction.start()
    explained = await connection.fetchval(
        f'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE "{name}" ({values})'
    )
    await transaction.rollback()
    (plan,) = json.loads(explained)
    return list(scans(plan["Plan"]))


def literals(argument: object) -> list[str]:
    values = argument if isinstance(argument, list) else [argument]
    return ["NULL" if value is None else f"'{value}'" for value in values]


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        yield node
    for inner in node.get("Plans", ()):
        yield from scans(inner)


def pieces_of(status: str | None, severity: str | None) -> int:
    return (len(status.split(",")) if status else 3) * (len(severity.split(",")) if severity else 4)


def removed(node: dict[str, Any]) -> int:
    return int(node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("status", [None, "triggered", "resolved", "acknowledged,triggered"])
@pytest.mark.parametrize("severity", [None, "medium", "critical", "low", "high,low"])
@pytest.mark.parametrize("before", PLACES)
async def test_a_list(
    connection: Connection, tenant: UUID, status: str | None, severity: str | None, before: tuple[object, object]
) -> None:
    """A list reads no more than one page of each piece that its filter lets through, on any page, of any time."""
    pieces = pieces_of(status, severity) if status or severity else 1
    for time in TIMES:
        nodes = await read(connection, "alerts/list", tenant, status, severity, *time, *before, None)
        assert rows(nodes) <= PAGE * pieces, time
        assert blocks(nodes) <= (PAGE + DESCENT) * pieces, time


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("rule", ["r", "unknown"])
async def test_a_list_of_a_rule(connection: Connection, tenant: UUID, rule: str) -> None:
    for (status, severity), time, before in product(FILTERS, TIMES, PLACES):
        pieces = pieces_of(status, severity)
        nodes = await read(connection, "alerts/list", tenant, status, severity, *time, *before, rule)
        assert rows(nodes) <= PAGE * pieces, (status, severity, time, before)
        assert blocks(nodes) <= (PAGE + DESCENT) * pieces, (status, severity, time, before)


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("rule", [None, "r", "unknown"])
@pytest.mark.parametrize("q", [None, "m", "unknown"])
async def test_a_search(connection: Connection, tenant: UUID, rule: str | None, q: str | None) -> None:
    """A list of a rule reads a page of each piece, one with words what it may look at, whatever it finds."""
    some = PAGE if q is None else LOOKED_AT
    terms = compile_search_terms(q or "")
    query = (rule, terms.pattern, terms.count) if terms else (rule, None, None)
    for (status, severity), time, before in product(FILTERS, TIMES, PLACES):
        pieces = pieces_of(status, severity) if status or severity or rule else 1
        nodes = await read(connection, "alerts/search", tenant, status, severity, *time, *before, *query)
        looked_up = [node for node in nodes if node["Index Name"] == "alerts_pkey"]
        listed = [node for node in nodes if node not in looked_up]
        assert rows(listed) <= some * pieces, (status, severity, time, before)
        assert blocks(listed) <= (some * 1.05 + DESCENT) * pieces, (status, severity, time, before)
        assert rows(looked_up) <= (some if q else 0) + 2 * PAGE, (status, severity, time, before)


async def test_many_lists_at_once(connection: Connection) -> None:
    """Lists that leave together read one page each."""
    tenants, nothing = [BIG, SMALL, NOBODY] * 20, [None] * 60
    assert await rows_read(connection, "alerts/list", tenants, *[nothing] * 7) <= PAGE * 60
    rules = ["r", "unknown"] * 30
    assert await rows_read(connection, "alerts/list", tenants, *[nothing] * 6, rules) <= PAGE * 12 * 60
    arguments = [tenants, *[nothing] * 6, ["r", "unknown"] * 30, nothing, nothing]
    assert await rows_read(connection, "alerts/search", *arguments) <= PAGE * 13 * 60


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("status", [None, "triggered", "resolved"])
@pytest.mark.parametrize("severity", [None, "critical"])
@pytest.mark.parametrize(
    ("after", "before"), [(None, None), ("2026-01-01 05:00+00", None), (None, "2026-01-01 07:00+00")]
)
async def test_a_filter(
    connection: Connection,
    tenant: UUID,
    status: str | None,
    severity: str | None,
    after: str | None,
    before: str | None,
) -> None:
    """What a filter finds is read from the first of each piece that it lets through."""
    pieces = (1 if status else 2) * (1 if severity else 4)
    assert await rows_read(connection, "alerts/find", tenant, "resolved", status, severity, None, after, before) <= (
        1001 * pieces
    )


async def test_a_filter_by_rule(connection: Connection) -> None:
    """By the name of a rule nothing is read but what has it."""
    assert await rows_read(connection, "alerts/find", BIG, "resolved", None, None, "x", None, None) == 0
    assert await rows_read(connection, "alerts/find", BIG, "resolved", None, None, "r", None, None) <= 1001 * 8


@pytest.mark.parametrize("name", ["alerts/get", "alerts/acknowledge", "alerts/resolve"])
async def test_by_ids(connection: Connection, name: str) -> None:
    """A statement by ids reads the alerts of these ids and, where it counts, their tenants' counts."""
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 60", BIG)]
    nothing: list[object] = [None] * len(ids)
    change = [nothing, nothing, ["anonymous"] * len(ids), nothing]
    assert await rows_read(connection, name, ids, nothing, *(() if name == "alerts/get" else change)) <= 60


async def test_tenants_by_ids(connection: Connection) -> None:
    """The tenants of alerts are read from these alerts alone."""
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 60", BIG)]
    assert await rows_read(connection, "alerts/get_tenant", ids) == 60


async def test_create(connection: Connection) -> None:
    """Recording an alert reads no other."""
    assert await rows_read(connection, "alerts/create", UUID(int=7), BIG, "r", "m", "low", "anonymous", None) == 0


async def test_create_deduplicated(connection: Connection) -> None:
    """Reporting something again reads the open alert of its key, and none where there is none."""
    keys = (
        "INSERT INTO alerts (tenant_id, rule_name, message, status, resolved_at, dedup_key, occurrences, last_seen_at)"
    )
    open_ = f"{keys} SELECT $1, 'r', 'm', 'triggered', NULL, n, 1, now() FROM generate_series(1, 200) AS n"
    resolved = f"{keys} SELECT $1, 'r', 'm', 'resolved', now(), n % 200, 1, now() FROM generate_series(1, 2000) AS n"
    for rows in (open_, resolved):
        await connection.execute(rows, BIG)
    ids = [UUID(int=n) for n in range(60)]
    known, unknown = ([str(n + first) for n in range(60)] for first in (1, 300))
    alike = [[BIG] * 60, ["r"] * 60, ["m"] * 60, ["low"] * 60], [["anonymous"] * 60, [None] * 60]
    assert await rows_read(connection, "alerts/create_deduplicated", ids, *alike[0], known, *alike[1]) <= 60
    assert await rows_read(connection, "alerts/create_deduplicated", ids, *alike[0], unknown, *alike[1]) == 0


async def test_a_list_of_alerts_with_keys(connection: Connection) -> None:
    """A list reads nothing more for what alerts with keys have behind the others."""
    owner = UUID(int=77 << 64)
    keyed = """
    INSERT INTO alerts (tenant_id, rule_name, message, dedup_key, occurrences, last_seen_at)
    SELECT $1, 'r', 'm', n, 1, now() FROM generate_series(1, 60) AS n
    """
    await connection.execute(keyed, owner)
    assert await rows_read(connection, "alerts/list", owner, *[None] * 7) == PAGE


async def test_stats(connection: Connection) -> None:
    """A tenant's counts are read from its lanes alone."""
    lanes = "INSERT INTO alert_counts (tenant_id, lane) SELECT $1, n FROM generate_series(-1, 15) AS n"
    await connection.execute(f"{lanes} ON CONFLICT DO NOTHING", BIG)
    assert await rows_read(connection, "stats/get", BIG) == 17


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("kind", [None, "created", "resolved", "escalated"])
@pytest.mark.parametrize("after", [None, "2026-01-01 05:00+00"])
async def test_a_tenants_history(connection: Connection, tenant: UUID, kind: str | None, after: str | None) -> None:
    """A tenant's log reads no more than a page of each type, wherever it begins."""
    place = (after, after and UUID(int=5), after and 1)
    for since, until in ((None, None), ("2026-01-01 05:10+00", None), (None, "2026-01-01 05:10+00")):
        read = await rows_read(connection, "history/list", tenant, kind, since, until, *place)
        assert read <= PAGE * (1 if kind else 5)


async def test_an_alerts_history(connection: Connection) -> None:
    """An alert's history reads the alert and its own events."""
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 20", BIG)]
    assert await rows_read(connection, "history/list_of_alert", ids, [None] * 20, [None] * 20) <= 20 * 4


@pytest.mark.parametrize(("days", "rows"), [(30, 2000), (60, 0)])
async def test_prune(connection: Connection, days: int, rows: int) -> None:
    """Pruning reads the 500 alerts of its batch, once to find and once to delete them, and their events; or nothing."""
    assert await rows_read(connection, "retention/prune", days, None, MOST) == rows
    assert await rows_read(connection, "retention/prune", days, "2999-01-01", MOST) == 0


async def test_counting_what_is_due(connection: Connection) -> None:
    """What may go is counted without a look at what stays."""
    assert await rows_read(connection, "retention/count", 30) == 2000
    assert await rows_read(connection, "retention/count", 60) == 0


@pytest.fixture
async def keys(connection: Connection) -> AsyncIterator[None]:
    """Twenty thousand first answers, half of them expired."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, body, created_at)"
        f" SELECT '{BIG}', 'POST /alerts', n, '', 201, '', now() - interval '1 day' + (n - 10000) * interval '8 s'"
        " FROM generate_series(1, 20000) AS n"
    )
    yield
    await transaction.rollback()


@pytest.mark.usefixtures("keys")
async def test_keys(connection: Connection) -> None:
    """A key is found by itself, and to keep one reads no other."""
    assert await rows_read(connection, "idempotency/lock", BIG, "POST /alerts", "15000") == 0
    assert await rows_read(connection, "idempotency/find", BIG, "POST /alerts", "15000") == 1
    keep = (BIG, "POST /alerts", "new", r"\x00", 201, None, r"\x00")
    assert await rows_read(connection, "idempotency/keep", *keep) == 0


@pytest.mark.usefixtures("keys")
async def test_prune_keys(connection: Connection) -> None:
    """Pruning reads the 500 keys of its batch, once to find and once to delete them, or none."""
    assert await rows_read(connection, "idempotency/prune", None) == 1000
    assert await rows_read(connection, "idempotency/prune", "2999-01-01") == 0
