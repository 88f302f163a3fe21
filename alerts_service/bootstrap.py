"""Opens the configured database and prepares it for the service.

If no database is configured, the embedded PostgreSQL is started. Pending migrations are applied, and every SQL file is
checked against the schema.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeAlias

import asyncpg

from alerts_service.db import schema_check
from alerts_service.db.database import CONNECT_TIMEOUT_SECONDS, Database, open_database
from alerts_service.db.error_mapping import UNREACHABLE_ERRORS, startup_error
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection, connect_options, missing_session_settings
from alerts_service.db.queries import load_queries
from alerts_service.db.unavailable_database import UnavailableDatabase
from alerts_service.embedded import handle as embedded
from alerts_service.errors import DatabaseNotReady, StartupError
from alerts_service.retention.job import PRUNE
from alerts_service.settings import Settings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
# uvicorn uses this exit code if the application does not start. uvicorn's supervisor does not restart a worker that
# ended with this code.
STARTUP_FAILURE_EXIT_CODE = 3

SetDatabase: TypeAlias = Callable[[Database | UnavailableDatabase], None]


@asynccontextmanager
async def database_lifespan(settings: Settings, set_database: SetDatabase) -> AsyncIterator[None]:
    """Open the database, pass it to `set_database`, and close it on exit.

    If the database cannot be reached, an UnavailableDatabase is passed to `set_database`, and the connection is retried
    in the background. If a later attempt fails with another error, the process ends.

    Raises:
        StartupError: the database cannot be used, and a retry cannot fix this.
    """
    async with AsyncExitStack() as stack:
        try:
            set_database(await stack.enter_async_context(ready_database(settings)))
        except DatabaseNotReady as error:
            logger.warning("database unreachable, retrying", extra={"reason": str(error), "retry_in": RETRY_SECONDS})
            set_database(UnavailableDatabase())
            retries = asyncio.create_task(_retry_until_ready(settings, stack, set_database))
            retries.add_done_callback(_exit_if_failed)
            stack.push_async_callback(_cancel, retries)
        yield


async def _retry_until_ready(settings: Settings, stack: AsyncExitStack, set_database: SetDatabase) -> None:
    while True:
        await asyncio.sleep(RETRY_SECONDS)
        with suppress(DatabaseNotReady):
            set_database(await stack.enter_async_context(ready_database(settings)))
            logger.info("database connected")
            return


def _exit_if_failed(retries: "asyncio.Task[None]") -> None:
    if not retries.cancelled() and retries.exception():
        # SystemExit stops the event loop. `_cancel` then raises the exception of the task.
        raise SystemExit(STARTUP_FAILURE_EXIT_CODE)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def ready_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the configured database or the embedded PostgreSQL, apply all migrations and check the schema.

    Raises:
        DatabaseNotReady: the database cannot be reached.
        StartupError: the database cannot be started, or its schema does not match the SQL files.
    """
    async with database_dsn(settings) as dsn:
        async with connect(dsn, pooler=settings.pooler) as connection:
            await migrate(connection)
            await check_schema(connection, settings)
            if settings.pooler and (lacking := await missing_session_settings(connection)):
                logger.warning(
                    "the pooler lacks session settings: add SET commands to its connect_query",
                    extra={"missing": lacking},
                )
        async with open_database(
            dsn,
            pool_size=settings.pool_size,
            pool_timeout=settings.pool_timeout,
            statement_timeout=settings.statement_timeout,
            pooler=settings.pooler,
        ) as database:
            yield database


async def check_schema(connection: Connection, settings: Settings) -> int:
    """Check every SQL file against the schema and the privileges of the role, and return the number of files.

    The role needs no privileges for statements that the service does not run with these settings.

    Raises:
        StartupError: a file does not match.
    """
    unused = (PRUNE.name,) if settings.retention_days is None else ()
    return await schema_check.verify(connection, load_queries(), unused)


@asynccontextmanager
async def database_dsn(settings: Settings) -> AsyncIterator[str]:
    """Yield DATABASE_URL. If it is not set, start the embedded PostgreSQL, yield its DSN, and stop it on exit."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    data_dir = settings.data_dir or embedded.default_data_dir()
    postgres = await asyncio.to_thread(embedded.start, data_dir)
    logger.info("embedded PostgreSQL started", extra={"data_dir": str(data_dir)})
    try:
        yield postgres.dsn
    finally:
        await asyncio.to_thread(postgres.stop)


@asynccontextmanager
async def connect(dsn: str, *, pooler: bool = False) -> AsyncIterator[Connection]:
    """Yield a single connection, outside the pool, in the time zone of the server.

    Raises:
        StartupError: the connection fails or is lost, or a statement in the block fails. The message never contains the
            DSN, which may contain a password.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_SECONDS, **connect_options(pooler=pooler))
    except ValueError:  # before UNREACHABLE_ERRORS: asyncpg's error for an invalid DSN belongs to both
        raise StartupError(
            "DATABASE_URL: must be a PostgreSQL URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        ) from None
    except UNREACHABLE_ERRORS as error:
        raise startup_error("DATABASE_URL: no connection to the database", error) from None
    try:
        yield connection
    except UNREACHABLE_ERRORS as error:
        raise startup_error("database error", error) from error
    finally:
        await connection.close()
