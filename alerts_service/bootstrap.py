"""From settings to a database that is ready to serve: found, awaited or started, brought up to date, checked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeAlias

import asyncpg

from alerts_service.db import schema_check
from alerts_service.db.database import CONNECT_SECONDS, Database, open_database
from alerts_service.db.error_mapping import UNREACHABLE_ERRORS, startup_error
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection, connect_options, missing_session_settings
from alerts_service.db.queries import load_queries
from alerts_service.db.unavailable_database import UnavailableDatabase
from alerts_service.errors import DatabaseNotReady, StartupError
from alerts_service.retention.job import PRUNE
from alerts_service.settings import Settings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
FAILED = 3  # what uvicorn ends with when a start fails; its parent of several workers starts no other then

Serve: TypeAlias = Callable[[Database | UnavailableDatabase], None]


@asynccontextmanager
async def database_lifespan(settings: Settings, serve: Serve) -> AsyncIterator[None]:
    """Hand over the database that is ready, and until it can be reached one that answers DatabaseUnreachable.

    Raises:
        StartupError: waiting would not help. Where that shows only later, the process ends.
    """
    async with AsyncExitStack() as stack:
        try:
            serve(await stack.enter_async_context(ready_database(settings)))
        except DatabaseNotReady as reason:
            logger.warning("Waiting for the database: %s", reason)
            serve(UnavailableDatabase())
            waiting = asyncio.create_task(_await(settings, stack, serve))
            waiting.add_done_callback(_end_if_failed)
            stack.push_async_callback(_stop, waiting)
        yield


async def _await(settings: Settings, stack: AsyncExitStack, serve: Serve) -> None:
    while True:
        await asyncio.sleep(RETRY_SECONDS)
        with suppress(DatabaseNotReady):
            serve(await stack.enter_async_context(ready_database(settings)))
            logger.info("The database is there")
            return


def _end_if_failed(waiting: "asyncio.Task[None]") -> None:
    if not waiting.cancelled() and waiting.exception():
        raise SystemExit(FAILED)  # which a loop lets through, and _stop says why


async def _stop(waiting: "asyncio.Task[None]") -> None:
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting


@asynccontextmanager
async def ready_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database that the settings name, or the embedded one, with its schema up to date.

    Raises:
        DatabaseNotReady: the database cannot be reached.
        StartupError: it cannot be started, or its schema is not what the SQL files need.
    """
    async with server(settings) as dsn:
        async with connected(dsn, pooler=settings.pooler) as connection:
            await migrate(connection)
            await verify(connection, settings)
            if settings.pooler and (lacking := await missing_session_settings(connection)):
                logger.warning("The pooler's connect_query must SET %s", ", ".join(lacking))
        async with open_database(
            dsn,
            pool_size=settings.pool_size,
            pool_timeout=settings.pool_timeout,
            statement_timeout=settings.statement_timeout,
            pooler=settings.pooler,
        ) as database:
            yield database


async def verify(connection: Connection, settings: Settings) -> int:
    """Hold every SQL file against the schema, and against our rights unless the settings leave it unused.

    Raises:
        StartupError: one does not fit.
    """
    unused = (PRUNE.name,) if settings.retention_days is None else ()
    return await schema_check.verify(connection, load_queries(), unused)


@asynccontextmanager
async def server(settings: Settings) -> AsyncIterator[str]:
    """Yield the address of the database; without DATABASE_URL, start the embedded PostgreSQL and stop it afterwards."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from alerts_service.embedded import handle as embedded  # noqa: PLC0415 - a production install does not carry it

    folder = settings.data_dir or embedded.default_data_dir()
    postgres = await asyncio.to_thread(embedded.start, folder)
    logger.info("Embedded PostgreSQL is up, its data in %s", folder)
    try:
        yield postgres.dsn
    finally:
        await asyncio.to_thread(postgres.stop)


@asynccontextmanager
async def connected(dsn: str, *, pooler: bool = False) -> AsyncIterator[Connection]:
    """Yield one connection, outside the pool, in the server's own time zone.

    Raises:
        StartupError: there is none to be had, or it does not do what it is used for. The message never holds the
            address, which holds a password.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, **connect_options(pooler=pooler))
    except ValueError:
        raise StartupError("DATABASE_URL: not an address of a PostgreSQL database") from None
    except UNREACHABLE_ERRORS as error:
        raise startup_error("DATABASE_URL: no connection to the database", error) from None
    try:
        yield connection
    except UNREACHABLE_ERRORS as error:
        raise startup_error("the database refused", error) from error
    finally:
        await connection.close()
