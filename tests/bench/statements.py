"""What PostgreSQL itself says about its time: pg_stat_statements, where the server has it."""

import asyncio
from contextlib import suppress

import asyncpg

from tests.bench.seed import connected, execute

PRELOAD = (
    "ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements",
    "ALTER SYSTEM SET pg_stat_statements.track_planning = on",
)
PAUSES = 500
BUSY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
"""
SPENT = """
SELECT coalesce(sum(total_exec_time + total_plan_time), 0)
FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
WHERE datname = current_database() AND query NOT LIKE '%pg_stat_%'
"""


async def watch(dsn: str) -> None:
    """Without pg_stat_statements a measurement goes on, and shows no time of PostgreSQL's own."""
    with suppress(asyncpg.PostgresError):
        await execute(dsn, "CREATE EXTENSION pg_stat_statements")


async def spent_ms(dsn: str) -> float:
    """The time that this database's statements have taken so far, once none runs any more; NaN where nobody knows."""
    async with connected(dsn) as connection:
        try:
            for _ in range(PAUSES):
                if not await connection.fetchval(BUSY):
                    break
                await asyncio.sleep(0.02)
            return float(await connection.fetchval(SPENT))
        except asyncpg.PostgresError:
            return float("nan")
