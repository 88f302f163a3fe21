"""Connections to PostgreSQL, kept at hand."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from alerts_service.errors import DatabaseBusy, DatabaseNotReady, DatabaseUnreachable, OutOfResources, StartupError

logger = logging.getLogger(__name__)

# A server that became read-only is lost too: another may be the primary by now. The last one is what asyncpg says when
# the server ended the connection at the very moment of a call, or when none of several is the one that is wanted.
CONNECTION_ERRORS = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)

# What may get better by waiting, when a connection is made; the last one is a server that is no primary yet.
RETRYABLE_CONNECT_ERRORS = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)
# What tells that there is none to be had.
UNREACHABLE_ERRORS = (*RETRYABLE_CONNECT_ERRORS, asyncpg.PostgresError, asyncpg.InterfaceError)

# Of these, what ended the statement alone.
TIMEOUT_ERRORS = (asyncio.TimeoutError, asyncpg.QueryCanceledError)

# What every connection is told. A lock that does not come soon is one that somebody holds on to. Every
# statement has an index that fits: it is planned once, for any values, and never reads a whole table because there was
# little in it at that time. A connection that has nothing to do for long is not forgotten by what stands in between.
SESSION = {
    "application_name": "as-alerts-service",
    "timezone": "UTC",
    "lock_timeout": "250ms",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "tcp_keepalives_idle": "60",
}

# The one for health waits for a lock as long as health does.
HEALTH_SESSION = {name: SESSION[name] for name in ("application_name", "tcp_keepalives_idle")}

# Of these, what PgBouncer takes from a client; the others it must tell its servers by itself.
POOLED = ("application_name", "timezone")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PooledConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


class PlainConnection(asyncpg.Connection):
    """A connection that goes back to the pool as it is: no statement of ours leaves anything behind in a session."""

    def get_reset_query(self) -> str:
        """Spare the round trip that a reset costs after every statement."""
        return ""


def session(*, pooler: bool) -> dict[str, str]:
    """What a connection is told when it is made."""
    return {name: SESSION[name] for name in POOLED} if pooler else SESSION


def options(*, pooler: bool) -> dict[str, Any]:
    """Connect so that a pooler may stand between here and the server: what is prepared stays with one connection."""
    return {"statement_cache_size": 0} if pooler else {}


async def missing(connection: Connection) -> list[str]:
    """Name what the sessions behind a pooler should have been told, and were not."""
    rows = await connection.fetch("SELECT name, setting, unit FROM pg_settings")
    told = {row["name"]: f"{row['setting']}{row['unit'] or ''}" for row in rows}
    wanted = SESSION.keys() - {*POOLED, "tcp_keepalives_idle"}
    return sorted(f"{name} = {SESSION[name]}" for name in wanted if told[name] != SESSION[name])


class Connections:
    """Hands out the connections of a pool, each for one statement or one transaction at a time.

    The pool makes them, and replaces those that are lost. But to give one back to it and to take it again costs nearly
    as much as a small statement, so one that did its work well and that nobody waits for is kept here.
    """

    def __init__(self, pool: Pool, timeout: float) -> None:
        """Who finds none waits for `timeout` seconds at most."""
        self._pool, self._timeout = pool, timeout
        self._spare: list[PooledConnection] = []
        self._returning: set[asyncio.Task[None]] = set()
        self._wanted = 0

    @property
    def open(self) -> int:
        """How many there are."""
        return self._pool.get_size()

    @property
    def idle(self) -> int:
        """How many of them have nothing to do."""
        return self._pool.get_idle_size() + sum(map(_usable, self._spare))

    @property
    def limit(self) -> int:
        """How many there may be."""
        return self._pool.get_max_size()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[PooledConnection]:
        """Borrow one. It is closed when what is done with it shows that it is lost.

        Raises:
            DatabaseBusy: none came free in time.
            DatabaseUnreachable: there is none, and none can be made.
        """
        connection = await self._take()
        try:
            yield connection
        except TIMEOUT_ERRORS:
            self._give_back_later(connection)
            raise
        except BaseException as error:
            if isinstance(error, CONNECTION_ERRORS):
                with suppress(asyncpg.InterfaceError):  # the pool may have taken it back already
                    connection.terminate()
            await self._give_back(connection)
            raise
        if _usable(connection) and not self._wanted:
            self._spare.append(connection)
        else:
            await self._give_back(connection)

    async def close(self) -> None:
        """Close them all, as soon as nobody holds one."""
        self._wanted += 1  # by the end: none is kept any more
        while self._spare:
            await self._give_back(self._spare.pop())
        await self._pool.close()

    async def _take(self) -> PooledConnection:
        while self._spare:
            connection = self._spare.pop()
            if _usable(connection):
                return connection
            await self._give_back(connection)
        self._wanted += 1
        try:
            return await self._pool.acquire(timeout=self._timeout)
        except asyncio.TimeoutError as error:
            if self.open < self.limit:
                raise unreachable(error) from error
            raise DatabaseBusy("no connection to the database came free in time") from None
        except UNREACHABLE_ERRORS as error:
            raise unreachable(error) from error
        finally:
            self._wanted -= 1

    def _give_back_later(self, connection: PooledConnection) -> None:
        """Let nobody wait until a silent database has taken back what it was asked."""
        task = asyncio.create_task(self._give_back(connection))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _give_back(self, connection: PooledConnection) -> None:
        # By now the statement has its outcome, which a fault on the way back to the pool does not change.
        with suppress(*UNREACHABLE_ERRORS):
            try:
                if connection.is_in_transaction():  # which the pool would end too, but with a complaint
                    await connection.execute("ROLLBACK")
            except UNREACHABLE_ERRORS:
                connection.terminate()
            finally:
                await self._pool.release(connection)


def _usable(connection: PooledConnection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has noticed that it was closed, and taken it back
        return False


def startup_error(what: str, error: Exception) -> StartupError:
    """Say why there is no start, and whether there may be one later."""
    if isinstance(error, asyncpg.DuplicatePreparedStatementError) or "startup parameter" in str(error):
        return StartupError(f"{what}: a pooler stands before the database: set AS_ALERTS_POOLER=true")
    kind = (
        DatabaseNotReady
        if isinstance(error, RETRYABLE_CONNECT_ERRORS) and not isinstance(error, ssl.SSLError)
        else StartupError
    )
    return kind(f"{what}: {str(error) or 'no answer in time'}")


def unreachable(error: Exception) -> DatabaseUnreachable:
    """Log why, which the caller need not know."""
    logger.error("No connection to the database: %s", str(error) or type(error).__name__)
    return DatabaseUnreachable()


def out_of_resources(error: Exception) -> OutOfResources:
    """Log what there is too little of, which the caller need not know."""
    logger.error("The database has no room: %s", error)
    return OutOfResources("the database has no room")
