"""Execution times of statements, from pg_stat_statements where the server has it."""

import asyncio
from contextlib import suppress

import asyncpg

from tests.bench.seed import connected, execute

PRELOAD_EXTENSION = (
    "ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements",
    "ALTER SYSTEM SET pg_stat_statements.track_planning = on",
)
MAX_POLLS = 500
POLL_SECONDS = 0.02
COUNT_ACTIVE = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
"""
SUM_TIMES = """
SELECT coalesce(sum(total_exec_time + total_plan_time), 0)
FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
WHERE datname = current_database() AND query NOT LIKE '%pg_stat_%'
"""


async def create_extension(dsn: str) -> None:
    """Create pg_stat_statements. If the server does not have it, only the times in PostgreSQL are missing."""
    with suppress(asyncpg.PostgresError):
        await execute(dsn, "CREATE EXTENSION pg_stat_statements")


async def total_ms(dsn: str) -> float:
    """Wait until no statement runs, and return the time of all statements in this database so far; NaN if unknown."""
    async with connected(dsn) as connection:
        try:
            for _ in range(MAX_POLLS):
                if not await connection.fetchval(COUNT_ACTIVE):
                    break
                await asyncio.sleep(POLL_SECONDS)
            return float(await connection.fetchval(SUM_TIMES))
        except asyncpg.PostgresError:
            return float("nan")
