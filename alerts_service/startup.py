"""From settings to a database that is ready to serve: found or started, brought up to date, checked."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from alerts_service import contract
from alerts_service.connections import REFUSED
from alerts_service.database import Connection, Database, load_queries, missing, open_database, options
from alerts_service.errors import StartError
from alerts_service.migrations import migrate
from alerts_service.settings import Settings

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10


@asynccontextmanager
async def ready_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database that the settings name, or the embedded one, with its schema up to date.

    Raises:
        StartError: it cannot be reached or started, or its schema is not what the SQL files need.
    """
    async with server(settings) as dsn:
        async with connected(dsn, pooler=settings.pooler) as connection:
            await migrate(connection)
            await contract.verify(connection, load_queries())
            if settings.pooler and (lacking := await missing(connection)):
                logger.warning("The pooler's connect_query must SET %s", ", ".join(lacking))
        async with open_database(
            dsn,
            pool_size=settings.pool_size,
            pool_timeout=settings.pool_timeout,
            statement_timeout=settings.statement_timeout,
            pooler=settings.pooler,
        ) as database:
            yield database


@asynccontextmanager
async def server(settings: Settings) -> AsyncIterator[str]:
    """Yield the address of the database; without DATABASE_URL, start the embedded PostgreSQL and stop it afterwards."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from alerts_service import embedded  # noqa: PLC0415 - a production install does not carry it

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
        StartError: there is none to be had, or it does not do what it is used for. The message never holds the
            address, which holds a password.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, **options(pooler=pooler))
    except ValueError:
        raise StartError("DATABASE_URL: not an address of a PostgreSQL database") from None
    except (asyncio.TimeoutError, *REFUSED) as error:
        raise StartError(f"DATABASE_URL: no connection to the database: {str(error) or 'no answer in time'}") from None
    try:
        yield connection
    except REFUSED as error:
        raise StartError(f"the database refused: {error}") from error
    finally:
        await connection.close()
