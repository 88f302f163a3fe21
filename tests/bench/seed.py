"""Lays the same alerts in every database, with the same ids and times, so that every server answers the same.

Alert n has the id md5('alert n'); tenant t has md5('tenant t'). They are random to a B-tree and known to this process.
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

# More tenants than connections, asked in turn: the service answers equal questions that wait together with one query,
# and no two that are under way at a time shall be equal.
TENANTS, ALERTS_PER_TENANT = 100, 1_000
EVEN = f"n % {TENANTS}"  # alert n's tenant, where all have as many
A_TENTH = "CASE WHEN n % 10 = 0 THEN 0 ELSE 1 + n % 1000 END"  # and where tenant 0 holds a tenth of all
FRESH = 1_000_000_000  # from this number on, alerts are triggered and were recorded later
CHUNK = 100_000
PATIENCE_SECONDS = 900

TABLES = """
SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
WHERE schemaname = 'public' AND tablename <> 'alerts_service_migrations'
"""
FILL = """
INSERT INTO alerts
    (id, tenant_id, rule_name, message, severity, status, created_at, updated_at,
    acknowledged_at, acknowledgment_note, resolved_at, resolution_note, version)
SELECT
    md5('alert ' || n)::uuid, md5('tenant ' || ({tenant}))::uuid, 'missed_call',
    'Missed call from +44 20 7946 ' || lpad((n % 10000)::text, 4, '0') || ' not returned in 15 minutes',
    CASE n / 100 % 100 WHEN 99 THEN 'critical' WHEN 98 THEN 'high' ELSE 'medium' END, status, at, changed,
    CASE WHEN status <> 'triggered' THEN at + interval '5 minutes' END,
    CASE WHEN status <> 'triggered' THEN 'Calling the customer back' END,
    CASE WHEN status = 'resolved' THEN changed END,
    CASE WHEN status = 'resolved' THEN 'The customer was called' END,
    CASE status WHEN 'triggered' THEN 1 WHEN 'acknowledged' THEN 2 ELSE 3 END
FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT CASE
        WHEN n >= 1000000000 OR n / 100 % 10 = 0 THEN 'triggered'
        WHEN n / 100 % 10 < 3 THEN 'acknowledged' ELSE 'resolved'
    END AS status, timestamptz '2020-01-01 00:00+00' + n % 1000000000 * interval '1 second' AS at) AS first,
    LATERAL (SELECT at + CASE status
        WHEN 'triggered' THEN interval '0' WHEN 'acknowledged' THEN interval '5 minutes' ELSE interval '9 minutes'
    END AS changed) AS second
"""


TELL = """
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


def alert(number: int) -> UUID:
    return UUID(md5(b"alert %d" % number).hexdigest())


def tenant(number: int) -> UUID:
    return UUID(md5(b"tenant %d" % number).hexdigest())


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=PATIENCE_SECONDS)
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def database(server_dsn: str, *, peer: bool = False) -> Iterator[str]:
    """Make a database with the service's schema, yield its address, and drop it."""
    name = f"bench_{uuid4().hex}"
    dsn = urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
    asyncio.run(execute(server_dsn, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(_prepare(dsn, peer=peer))
        yield dsn
    finally:
        asyncio.run(execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(dsn: str, *statements: str) -> None:
    async with connected(dsn) as connection:
        for sql in statements:
            await connection.execute(sql)


OURS = "idx_alerts_rule_name, idx_alerts_dedup_key, idx_alerts_resolved_at"


async def _prepare(dsn: str, *, peer: bool) -> None:
    """A peer gets the indexes that its list and its counts need, and is spared what serves only the service."""
    async with connected(dsn) as connection:
        await migrate(connection)
        await connection.execute("ALTER TABLE alerts SET (autovacuum_enabled = off)")  # not in another's turn
        if not peer:
            return
        await connection.execute(f"DROP INDEX idx_alerts_tenant_id, idx_alerts_status, {OURS}")
        await connection.execute("CREATE INDEX idx_alerts_tenant_id ON alerts (tenant_id, created_at DESC, id DESC)")
        await connection.execute("CREATE INDEX idx_alerts_status ON alerts (tenant_id, status)")
        triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'alerts'::regclass AND NOT tgisinternal"
        for trigger in await connection.fetch(triggers):
            await connection.execute(f'DROP TRIGGER "{trigger["tgname"]}" ON alerts')


async def lay(
    dsn: str, count: int = TENANTS * ALERTS_PER_TENANT, tenants: str = EVEN, fresh: int = 0, *, told: bool = False
) -> None:
    """Empty the database, then lay alerts 0 to `count`, and `fresh` ones that wait to be acknowledged.

    With `told`, each with its history.
    """
    async with connected(dsn) as connection:
        empty = f"TRUNCATE {await connection.fetchval(TABLES)}"
        await connection.execute(f"SET LOCAL session_replication_role = replica; {empty}")  # events refuse otherwise
        for start, end in ((0, count), (FRESH, FRESH + fresh)):
            for first in range(start, end, CHUNK):
                part = first, min(first + CHUNK, end) - 1
                await connection.execute(FILL.format(tenant=tenants), *part)
                if told:
                    await connection.execute(TELL, *part)
        await connection.execute(load_queries()["stats/recount"].sql)
        await connection.execute("VACUUM (ANALYZE)")
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CHECKPOINT")


async def count(dsn: str, condition: str) -> int:
    async with connected(dsn) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM alerts WHERE {condition}"))


async def backends(dsn: str) -> list[int]:
    """The process ids of everybody else's connections to this database."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [row["pid"] for row in rows]


async def version(dsn: str) -> str:
    async with connected(dsn) as connection:
        return str(await connection.fetchval("SHOW server_version")).split()[0]
