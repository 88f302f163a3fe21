"""Rows that the statements read: few more than they return, for tenants of any size and with outdated statistics."""

from collections.abc import AsyncIterator
from itertools import product
from uuid import UUID

import asyncpg
import pytest

from alerts_service.alerts.search_terms import compile_search_terms
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection, session_settings
from tests.support.database import POOLER, fresh_database
from tests.support.plans import blocks, explain, prepare_generic_plans, rows, rows_read

pytestmark = pytest.mark.anyio

MAX_EVENTS = 500_000
BIG, SMALL, UNKNOWN = UUID(int=0), UUID(int=1), UUID(int=10**6)
PAGE, MAX_SEARCHED = 51, 1_001  # including the row that shows whether more follow
DESCENT = 6  # blocks of an index on the way to the first row of a partition, and at its end
ALERTS = """
INSERT INTO alerts (tenant_id, rule_name, message, severity, created_at)
SELECT CASE n % 2 WHEN 0 THEN '{big}'::uuid ELSE lpad(to_hex(n % 100), 32, '0')::uuid END, 'r', 'm', '{severity}',
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
FROM generate_series({first}, {last}) AS n
"""
ONE_ALERT_PER_TENANT = """
INSERT INTO alerts (tenant_id, rule_name, message, severity)
SELECT gen_random_uuid(), 'r' || n % 9, 'm', (ARRAY['low', 'medium', 'high', 'critical'])[1 + n % 4]
FROM generate_series(1, 20000) AS n
"""
FILTERS = [(None, None), ("triggered", None), (None, "medium"), ("resolved", "critical"), ("acknowledged", "high,low")]
TIMES = [(None, None), ("2026-01-01 03:00+00", None), (None, "2026-01-01 03:00+00"), ("2027-01-01 00:00+00", None)]
POSITIONS = [(None, None), ("2026-01-01 05:00+00", UUID(int=5))]
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
NO_ALERTS = "planned without alerts"
CRITICAL_ALERTS = "planned when all alerts were critical"
SMALL_TENANTS = "planned when each tenant had one alert"


@pytest.fixture(scope="module", params=[NO_ALERTS, CRITICAL_ALERTS, SMALL_TENANTS])
async def connection(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """Return a connection like those of the pool, whose plans were made for other data than it reads."""
    async with fresh_database(server_url) as url:
        connection = await asyncpg.connect(url, server_settings=session_settings(pooler=POOLER))
        await migrate(connection)
        await connection.execute("ALTER TABLE alerts SET (autovacuum_enabled = off)")
        if request.param == SMALL_TENANTS:
            await connection.execute(f"{ONE_ALERT_PER_TENANT}; ANALYZE alerts")
        if request.param == CRITICAL_ALERTS:
            alerts = ALERTS.format(big=BIG, severity="critical", first=1, last=20_000)
            await connection.execute(f"{alerts}; ANALYZE alerts; ANALYZE alert_counts")
        await prepare_generic_plans(connection)
        await connection.execute(ALERTS.format(big=BIG, severity="critical", first=20_001, last=40_000))
        await connection.execute(ALERTS.format(big=BIG, severity="medium", first=-10, last=0))
        await connection.execute(EVENTS)
        await connection.execute(RESOLVED.format(days=40, first=1, last=2000))
        yield connection
        await connection.close()


def partitions(status: str | None, severity: str | None) -> int:
    """Return how many combinations of status and severity a filter matches."""
    return (len(status.split(",")) if status else 3) * (len(severity.split(",")) if severity else 4)


@pytest.mark.parametrize("tenant", [BIG, SMALL, UNKNOWN])
@pytest.mark.parametrize("status", [None, "triggered", "resolved", "acknowledged,triggered"])
@pytest.mark.parametrize("severity", [None, "medium", "critical", "low", "high,low"])
@pytest.mark.parametrize("before", POSITIONS)
async def test_a_list_reads_at_most_a_page_per_partition(
    connection: Connection, tenant: UUID, status: str | None, severity: str | None, before: tuple[object, object]
) -> None:
    """A partition is a combination of status and severity that the filter matches."""
    count = partitions(status, severity) if status or severity else 1
    for time in TIMES:
        nodes = await explain(connection, "alerts/list", tenant, status, severity, *time, *before, None)
        assert rows(nodes) <= PAGE * count, time
        assert blocks(nodes) <= (PAGE + DESCENT) * count, time


@pytest.mark.parametrize("tenant", [BIG, SMALL, UNKNOWN])
@pytest.mark.parametrize("rule", ["r", "unknown"])
async def test_a_list_of_a_rule_reads_at_most_a_page_per_partition(
    connection: Connection, tenant: UUID, rule: str
) -> None:
    for (status, severity), time, before in product(FILTERS, TIMES, POSITIONS):
        count = partitions(status, severity)
        nodes = await explain(connection, "alerts/list", tenant, status, severity, *time, *before, rule)
        assert rows(nodes) <= PAGE * count, (status, severity, time, before)
        assert blocks(nodes) <= (PAGE + DESCENT) * count, (status, severity, time, before)


@pytest.mark.parametrize("tenant", [BIG, SMALL, UNKNOWN])
@pytest.mark.parametrize("rule", [None, "r", "unknown"])
@pytest.mark.parametrize("q", [None, "m", "unknown"])
async def test_a_search_reads_at_most_its_limit_per_partition(
    connection: Connection, tenant: UUID, rule: str | None, q: str | None
) -> None:
    """Without words the limit is a page."""
    limit = PAGE if q is None else MAX_SEARCHED
    terms = compile_search_terms(q or "")
    query = (rule, terms.pattern, terms.count) if terms else (rule, None, None)
    for (status, severity), time, before in product(FILTERS, TIMES, POSITIONS):
        count = partitions(status, severity) if status or severity or rule else 1
        nodes = await explain(connection, "alerts/search", tenant, status, severity, *time, *before, *query)
        by_id = [node for node in nodes if node["Index Name"] == "alerts_pkey"]
        scanned = [node for node in nodes if node not in by_id]
        assert rows(scanned) <= limit * count, (status, severity, time, before)
        assert blocks(scanned) <= (limit * 1.05 + DESCENT) * count, (status, severity, time, before)
        assert rows(by_id) <= (limit if q else 0) + 2 * PAGE, (status, severity, time, before)


async def test_lists_in_a_batch_read_one_page_each(connection: Connection) -> None:
    tenants, nulls = [BIG, SMALL, UNKNOWN] * 20, [None] * 60
    assert await rows_read(connection, "alerts/list", tenants, *[nulls] * 7) <= PAGE * 60
    rules = ["r", "unknown"] * 30
    assert await rows_read(connection, "alerts/list", tenants, *[nulls] * 6, rules) <= PAGE * 12 * 60
    arguments = [tenants, *[nulls] * 6, ["r", "unknown"] * 30, nulls, nulls]
    assert await rows_read(connection, "alerts/search", *arguments) <= PAGE * 13 * 60


@pytest.mark.parametrize("tenant", [BIG, SMALL, UNKNOWN])
@pytest.mark.parametrize("status", [None, "triggered", "resolved"])
@pytest.mark.parametrize("severity", [None, "critical"])
@pytest.mark.parametrize(
    ("after", "before"), [(None, None), ("2026-01-01 05:00+00", None), (None, "2026-01-01 07:00+00")]
)
async def test_a_bulk_filter_reads_at_most_its_limit_per_partition(
    connection: Connection,
    tenant: UUID,
    status: str | None,
    severity: str | None,
    after: str | None,
    before: str | None,
) -> None:
    count = (1 if status else 2) * (1 if severity else 4)
    assert await rows_read(connection, "alerts/find", tenant, "resolved", status, severity, None, after, before) <= (
        1001 * count
    )


async def test_a_bulk_filter_by_rule_reads_only_alerts_of_the_rule(connection: Connection) -> None:
    assert await rows_read(connection, "alerts/find", BIG, "resolved", None, None, "x", None, None) == 0
    assert await rows_read(connection, "alerts/find", BIG, "resolved", None, None, "r", None, None) <= 1001 * 8


@pytest.mark.parametrize("name", ["alerts/get", "alerts/acknowledge", "alerts/resolve"])
async def test_a_statement_by_ids_reads_only_these_alerts(connection: Connection, name: str) -> None:
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 60", BIG)]
    nulls: list[object] = [None] * len(ids)
    transition = [nulls, nulls, ["anonymous"] * len(ids), nulls]
    assert await rows_read(connection, name, ids, nulls, *(() if name == "alerts/get" else transition)) <= 60


async def test_the_tenants_of_alerts_are_read_from_these_alerts(connection: Connection) -> None:
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 60", BIG)]
    assert await rows_read(connection, "alerts/get_tenant", ids) == 60


async def test_creating_an_alert_reads_no_other_alert(connection: Connection) -> None:
    assert await rows_read(connection, "alerts/create", UUID(int=7), BIG, "r", "m", "low", "anonymous", None) == 0


async def test_a_duplicate_reads_only_the_open_alert_of_its_key(connection: Connection) -> None:
    insert = (
        "INSERT INTO alerts (tenant_id, rule_name, message, status, resolved_at, dedup_key, occurrences, last_seen_at)"
    )
    open_ = f"{insert} SELECT $1, 'r', 'm', 'triggered', NULL, n, 1, now() FROM generate_series(1, 200) AS n"
    resolved = f"{insert} SELECT $1, 'r', 'm', 'resolved', now(), n % 200, 1, now() FROM generate_series(1, 2000) AS n"
    for alerts in (open_, resolved):
        await connection.execute(alerts, BIG)
    ids = [UUID(int=n) for n in range(60)]
    open_keys, new_keys = ([str(n + first) for n in range(60)] for first in (1, 300))
    before, after = [[BIG] * 60, ["r"] * 60, ["m"] * 60, ["low"] * 60], [["anonymous"] * 60, [None] * 60]
    assert await rows_read(connection, "alerts/create_deduplicated", ids, *before, open_keys, *after) <= 60
    assert await rows_read(connection, "alerts/create_deduplicated", ids, *before, new_keys, *after) == 0


async def test_a_list_of_deduplicated_alerts_reads_one_page(connection: Connection) -> None:
    tenant = UUID(int=77 << 64)
    deduplicated = """
    INSERT INTO alerts (tenant_id, rule_name, message, dedup_key, occurrences, last_seen_at)
    SELECT $1, 'r', 'm', n, 1, now() FROM generate_series(1, 60) AS n
    """
    await connection.execute(deduplicated, tenant)
    assert await rows_read(connection, "alerts/list", tenant, *[None] * 7) == PAGE


async def test_statistics_read_only_the_counters_of_the_tenant(connection: Connection) -> None:
    """A tenant has 17 counter shards; the column `lane` numbers them."""
    shards = "INSERT INTO alert_counts (tenant_id, lane) SELECT $1, n FROM generate_series(-1, 15) AS n"
    for tenant in (BIG, SMALL):
        await connection.execute(f"{shards} ON CONFLICT DO NOTHING", tenant)
    assert await rows_read(connection, "stats/get", BIG) == 17


@pytest.mark.parametrize("tenant", [BIG, SMALL, UNKNOWN])
@pytest.mark.parametrize("type_", [None, "created", "resolved", "escalated"])
@pytest.mark.parametrize("after", [None, "2026-01-01 05:00+00"])
async def test_the_history_of_a_tenant_reads_at_most_a_page_per_type(
    connection: Connection, tenant: UUID, type_: str | None, after: str | None
) -> None:
    position = (after, after and UUID(int=5), after and 1)
    for since, until in ((None, None), ("2026-01-01 05:10+00", None), (None, "2026-01-01 05:10+00")):
        count = await rows_read(connection, "history/list", tenant, type_, since, until, *position)
        assert count <= PAGE * (1 if type_ else 5)


async def test_the_history_of_alerts_reads_only_these_alerts_and_their_events(connection: Connection) -> None:
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 20", BIG)]
    assert await rows_read(connection, "history/list_of_alert", ids, [None] * 20, [None] * 20) <= 20 * 4


@pytest.mark.parametrize(("days", "rows"), [(30, 2000), (60, 0)])
async def test_pruning_alerts_reads_only_its_batch(connection: Connection, days: int, rows: int) -> None:
    """A batch has 500 alerts with two events each. The alerts are read twice: to find and to delete them."""
    assert await rows_read(connection, "retention/prune", days, None, MAX_EVENTS) == rows
    assert await rows_read(connection, "retention/prune", days, "2999-01-01", MAX_EVENTS) == 0


async def test_counting_expired_alerts_reads_no_other_alert(connection: Connection) -> None:
    assert await rows_read(connection, "retention/count", 30) == 2000
    assert await rows_read(connection, "retention/count", 60) == 0


@pytest.fixture
async def stored_responses(connection: Connection) -> AsyncIterator[None]:
    """Store twenty thousand responses of idempotent requests, half of them expired."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, body, created_at)"
        f" SELECT '{BIG}', 'POST /alerts', n, '', 201, '', now() - interval '1 day' + (n - 10000) * interval '8 s'"
        " FROM generate_series(1, 20000) AS n"
    )
    yield
    await transaction.rollback()


@pytest.mark.usefixtures("stored_responses")
async def test_an_idempotency_key_is_found_and_stored_without_reading_others(connection: Connection) -> None:
    assert await rows_read(connection, "idempotency/lock", BIG, "POST /alerts", "15000") == 0
    assert await rows_read(connection, "idempotency/find", BIG, "POST /alerts", "15000") == 1
    response = (BIG, "POST /alerts", "new", r"\x00", 201, None, r"\x00")
    assert await rows_read(connection, "idempotency/keep", *response) == 0


@pytest.mark.usefixtures("stored_responses")
async def test_pruning_idempotency_keys_reads_only_its_batch(connection: Connection) -> None:
    """A batch has 500 keys, which are read twice: to find and to delete them."""
    assert await rows_read(connection, "idempotency/prune", None) == 1000
    assert await rows_read(connection, "idempotency/prune", "2999-01-01") == 0
