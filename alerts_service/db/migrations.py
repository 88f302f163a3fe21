"""Applies schema migrations: plain SQL files, forward only.

Each file is applied once, and its SHA-256 is stored. A file that was changed after this is an error. All pending files
are applied in one transaction with an advisory lock, so several processes can start on an empty database.
"""

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from msgspec import Struct

from alerts_service.db.error_mapping import startup_error
from alerts_service.db.pool import Connection
from alerts_service.db.queries import sql_directory
from alerts_service.errors import StartupError

logger = logging.getLogger(__name__)

# Key of the advisory lock: "alerts" in ASCII. Other programs that use the database are unlikely to use this key.
ADVISORY_LOCK_KEY = 0x616C65727473

CREATE_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS alerts_service_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
INSERT_MIGRATION = "INSERT INTO alerts_service_migrations (version, name, sha256) VALUES ($1, $2, $3)"


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
        for path in sorted((sql_directory() / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]


async def migrate(connection: Connection) -> list[Migration]:
    """Apply the pending migrations and return them. If none is pending, the schema is only read.

    The session of the connection must have the server's default time zone: the second migration interprets times
    without a zone in the zone of its session.

    Raises:
        StartupError: a file was changed after it had been applied, or a migration failed. In the second case all
            pending migrations are rolled back.
    """
    if not await pending(connection):
        return []
    try:
        async with advisory_lock(connection):
            await connection.execute(CREATE_MIGRATIONS_TABLE)
            migrations = await pending(connection)
            for migration in migrations:
                await _apply(connection, migration)
    except asyncpg.PostgresError as error:
        raise startup_error("schema migration failed", error) from error
    return migrations


@asynccontextmanager
async def advisory_lock(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a transaction that holds the service's advisory lock. The wait for the lock is not limited."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
        yield


async def pending(connection: Connection) -> list[Migration]:
    """Return the migrations that have not been applied.

    Raises:
        StartupError: a file was changed after it had been applied.
    """
    applied = await _applied_hashes(connection)
    migrations = load_migrations()
    for migration in migrations:
        if applied.get(migration.version, migration.sha256) != migration.sha256:
            raise StartupError(f"sql/migrations/{migration.name}.sql was changed after it had been applied")
    return [migration for migration in migrations if migration.version not in applied]


async def _applied_hashes(connection: Connection) -> dict[int, str]:
    if await connection.fetchval("SELECT to_regclass('alerts_service_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT version, sha256 FROM alerts_service_migrations")
    return {row["version"]: row["sha256"] for row in rows}


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(migration.sql)
    await connection.execute(INSERT_MIGRATION, migration.version, migration.name, migration.sha256)
    logger.info("migration applied", extra={"migration": migration.name})
