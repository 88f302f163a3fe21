"""Fills every database with the same alerts, ids and times, so that every server returns the same responses.

Alert n has the id md5('alert n') and tenant t has md5('tenant t'): random to a B-tree, but known to this process.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import md5
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection
from alerts_service.db.queries import load_queries

# Requests go to the tenants in rotation. With more tenants than connections, no two requests in progress are equal: the
# service would answer equal reads in a batch with one query.
TENANTS, ALERTS_PER_TENANT = 100, 1_000

# SQL expressions for the tenant number of alert n.
EVEN_TENANTS = f"n % {TENANTS}"
ONE_LARGE_TENANT = "CASE WHEN n % 10 = 0 THEN 0 ELSE 1 + n % 1000 END"  # tenant 0 has a tenth of all alerts

# Alerts from this number on are triggered. They are reserved for requests that can be sent only once.
FIRST_RESERVED_ALERT = 1_000_000_000

INSERT_CHUNK = 100_000
COMMAND_TIMEOUT_SECONDS = 900

LIST_TABLES = """
SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
WHERE schemaname = 'public' AND tablename <> 'alerts_service_migrations'
"""
INSERT_ALERTS = """
INSERT INTO alerts
    (id, tenant_id, rule_name, message, severity, status, created_at, updated_at,
    acknowledged_at, acknowledgment_note, resolved_at, resolution_note, version)
SELECT
    md5('alert ' || n)::uuid, md5('tenant ' || ({tenant}))::uuid, 'missed_call',
    'Missed call from +44 20 7946 ' || lpad((n % 10000)::text, 4, '0') || ' not returned in 15 minutes',
    CASE n / 100 % 100 WHEN 99 THEN 'critical' WHEN 98 THEN 'high' ELSE 'medium' END, status, created_at, updated_at,
    CASE WHEN status <> 'triggered' THEN created_at + interval '5 minutes' END,
    CASE WHEN status <> 'triggered' THEN 'Calling the customer back' END,
    CASE WHEN status = 'resolved' THEN updated_at END,
    CASE WHEN status = 'resolved' THEN 'The customer was called' END,
    CASE status WHEN 'triggered' THEN 1 WHEN 'acknowledged' THEN 2 ELSE 3 END
FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT CASE
        WHEN n >= 1000000000 OR n / 100 % 10 = 0 THEN 'triggered'
        WHEN n / 100 % 10 < 3 THEN 'acknowledged' ELSE 'resolved'
    END AS status, timestamptz '2020-01-01 00:00+00' + n % 1000000000 * interval '1 second' AS created_at) AS created,
    LATERAL (SELECT created_at + CASE status
        WHEN 'triggered' THEN interval '0' WHEN 'acknowledged' THEN interval '5 minutes' ELSE interval '9 minutes'
    END AS updated_at) AS updated
"""
INSERT_EVENTS = """
INSERT INTO alert_events
    (alert_id, sequence, tenant_id, type, from_status, to_status, note, actor, occurred_at)
SELECT alerts.id, sequence, tenant_id, type, from_status, to_status, note, 'anonymous', at
FROM generate_series($1::bigint, $2::bigint) AS n
JOIN alerts ON alerts.id = md5('alert ' || n)::uuid,
    LATERAL (VALUES
        (1, 'created', NULL, 'triggered', NULL, created_at),
        (2, 'acknowledged', 'triggered', 'acknowledged', acknowledgment_note, acknowledged_at),
        (3, 'resolved', 'acknowledged', 'resolved', resolution_note, resolved_at)
    ) AS event (sequence, type, from_status, to_status, note, at)
WHERE at IS NOT NULL
"""
LIST_TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'alerts'::regclass AND NOT tgisinternal"
SERVICE_INDEXES = "idx_alerts_rule_name, idx_alerts_dedup_key, idx_alerts_resolved_at"


def alert_id(number: int) -> UUID:
    return UUID(md5(b"alert %d" % number).hexdigest())


def tenant_id(number: int) -> UUID:
    return UUID(md5(b"tenant %d" % number).hexdigest())


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=COMMAND_TIMEOUT_SECONDS)
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def temporary_database(server_dsn: str, *, peer: bool = False) -> Iterator[str]:
    """Create a database with the schema of the service, yield its DSN, and drop it."""
    name = f"bench_{uuid4().hex}"
    dsn = urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
    asyncio.run(execute(server_dsn, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(_create_schema(dsn, peer=peer))
        yield dsn
    finally:
        asyncio.run(execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(dsn: str, *statements: str) -> None:
    async with connected(dsn) as connection:
        for sql in statements:
            await connection.execute(sql)


async def _create_schema(dsn: str, *, peer: bool) -> None:
    """Create the schema; for a peer, with the indexes that its queries need, and without triggers and other indexes."""
    async with connected(dsn) as connection:
        await migrate(connection)
        # Otherwise the autovacuum of one server's table could run while another server is measured.
        await connection.execute("ALTER TABLE alerts SET (autovacuum_enabled = off)")
        if not peer:
            return
        await connection.execute(f"DROP INDEX idx_alerts_tenant_id, idx_alerts_status, {SERVICE_INDEXES}")
        await connection.execute("CREATE INDEX idx_alerts_tenant_id ON alerts (tenant_id, created_at DESC, id DESC)")
        await connection.execute("CREATE INDEX idx_alerts_status ON alerts (tenant_id, status)")
        for trigger in await connection.fetch(LIST_TRIGGERS):
            await connection.execute(f'DROP TRIGGER "{trigger["tgname"]}" ON alerts')


async def load_alerts(
    dsn: str,
    count: int = TENANTS * ALERTS_PER_TENANT,
    tenant_expression: str = EVEN_TENANTS,
    *,
    reserved: int = 0,
    with_history: bool = False,
) -> None:
    """Empty all tables, then insert alerts.

    Args:
        dsn: the database
        count: number of alerts, numbered from 0
        tenant_expression: SQL expression for the tenant number of alert n
        reserved: number of additional triggered alerts, numbered from FIRST_RESERVED_ALERT
        with_history: whether to insert the events of each alert
    """
    async with connected(dsn) as connection:
        truncate = f"TRUNCATE {await connection.fetchval(LIST_TABLES)}"
        # As a replica, because a trigger of alert_events forbids deletion.
        await connection.execute(f"SET LOCAL session_replication_role = replica; {truncate}")
        for start, end in ((0, count), (FIRST_RESERVED_ALERT, FIRST_RESERVED_ALERT + reserved)):
            for first in range(start, end, INSERT_CHUNK):
                chunk = first, min(first + INSERT_CHUNK, end) - 1
                await connection.execute(INSERT_ALERTS.format(tenant=tenant_expression), *chunk)
                if with_history:
                    await connection.execute(INSERT_EVENTS, *chunk)
        await connection.execute(load_queries()["stats/recount"].sql)
        await connection.execute("VACUUM (ANALYZE)")
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CHECKPOINT")


async def count_alerts(dsn: str, condition: str) -> int:
    async with connected(dsn) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM alerts WHERE {condition}"))


async def backend_pids(dsn: str) -> list[int]:
    """Return the process ids of the other connections to this database."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [row["pid"] for row in rows]


async def server_version(dsn: str) -> str:
    async with connected(dsn) as connection:
        return str(await connection.fetchval("SHOW server_version")).split()[0]
