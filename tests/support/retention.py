"""Rows for the tests of retention, and the wait for their deletion."""

import asyncio

from alerts_service.db.pool import Connection

# $2 alerts that were resolved nine days ago, with two events each.
INSERT_RESOLVED = """
WITH resolved AS (
    INSERT INTO alerts (tenant_id, rule_name, message, status, resolved_at, version)
    SELECT $1, 'r', 'm', 'resolved', now() - interval '9 days', 2
    FROM generate_series(1, $2)
    RETURNING id, tenant_id
),
logged AS (
    INSERT INTO alert_events (alert_id, sequence, tenant_id, type, to_status, actor, occurred_at)
    SELECT id, sequence, tenant_id, 'created', 'triggered', 'anonymous', now()
    FROM resolved, generate_series(1, 2) AS sequence
)
INSERT INTO alert_counts (tenant_id, lane, resolved) VALUES ($1, -1, $2)
"""

# One valid key, "0", and $2 expired keys, from "1" on.
INSERT_KEYS = """
INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, body, created_at)
SELECT $1, 'POST /alerts', n, '', 201, '', now() - CASE n WHEN 0 THEN interval '23:59' ELSE interval '24:00:01' END
FROM generate_series(0, $2::integer) AS n
"""


async def wait_for_count(connection: Connection, count: int, table: str = "alerts") -> None:
    """Wait until a table has this number of rows, at most 10 s."""
    rows = None
    for _ in range(500):
        rows = await connection.fetchval(f"SELECT count(*) FROM {table}")
        if rows == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{table}: {rows} rows in place of {count}")
