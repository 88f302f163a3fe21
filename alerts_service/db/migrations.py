"""Brings the schema up to date: plain SQL files, forward only.

Each file is applied once and its SHA-256 is recorded; a file that changed after that is refused. All that is pending
is applied in one transaction behind an advisory lock, so several processes may start on one empty database.
"""

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from msgspec import Struct

from alerts_service.db.pool import Connection, startup_error
from alerts_service.db.queries import sql_folder
from alerts_service.errors import StartupError

logger = logging.getLogger(__name__)

# Any number that no other user of the database takes; this one spells "alerts" in ASCII.
LOCK = 0x616C65727473

CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS alerts_service_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
RECORD = "INSERT INTO alerts_service_migrations (version, name, sha256) VALUES ($1, $2, $3)"


class Migration(Struct, frozen=True):
    """A file `0001_name.sql` below sql/migrations."""

    version: int
    name: str
    sql: str
    sha256: str


def load_migrations() -> list[Migration]:
    """Read the files in the order of their versions."""
    return [
        Migration(
            int(path.stem[:4]), path.stem, sql := path.read_text("utf-8"), hashlib.sha256(sql.encode()).hexdigest()
        )
        for path in sorted((sql_folder() / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]


async def migrate(connection: Connection) -> list[Migration]:
    """Apply what is pending and return it. A schema that is up to date is only read.

    The connection must keep the server's own time zone: the second migration reads old times in it.

    Raises:
        StartupError: a file that was applied has changed since, or a migration fails; then nothing was applied.
    """
    if not await pending(connection):
        return []
    try:
        async with alone(connection):
            await connection.execute(CREATE_LEDGER)
            due = await pending(connection)
            for migration in due:
                await _apply(connection, migration)
    except asyncpg.PostgresError as error:
        raise startup_error("the schema could not be brought up to date", error) from error
    return due


@asynccontextmanager
async def alone(connection: Connection) -> AsyncIterator[None]:
    """Keep out every other process that wants the same, however long it has to wait, until the transaction is over."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        yield


async def pending(connection: Connection) -> list[Migration]:
    """List what the database has not seen yet.

    Raises:
        StartupError: a file that was applied has changed since.
    """
    applied = await _applied(connection)
    migrations = load_migrations()
    for migration in migrations:
        if applied.get(migration.version, migration.sha256) != migration.sha256:
            raise StartupError(f"sql/migrations/{migration.name}.sql was applied already and has changed since")
    return [migration for migration in migrations if migration.version not in applied]


async def _applied(connection: Connection) -> dict[int, str]:
    if await connection.fetchval("SELECT to_regclass('alerts_service_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT version, sha256 FROM alerts_service_migrations")
    return {row["version"]: row["sha256"] for row in rows}


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(migration.sql)
    await connection.execute(RECORD, migration.version, migration.name, migration.sha256)
    logger.info("Applied migration %s", migration.name)
