"""Pool of connections to PostgreSQL, and the settings of their sessions."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from alerts_service.db.error_mapping import CONNECTION_ERRORS, TIMEOUT_ERRORS, UNREACHABLE_ERRORS, unreachable
from alerts_service.errors import DatabaseBusy

# Session settings of the connections of the pool.
# - lock_timeout: a transaction that holds a lock for longer is probably stuck.
# - plan_cache_mode, enable_*: every statement has a suitable index. A statement is planned once, for all values, and
#   never scans a whole table because the table was small at that time.
# - tcp_keepalives_idle: firewalls and NAT devices drop connections that are idle for long.
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

# The health check has a time limit of its own, so its session has no lock_timeout.
HEALTH_SESSION = {name: SESSION[name] for name in ("application_name", "tcp_keepalives_idle")}

# The settings that PgBouncer accepts from a client. The other settings must be part of PgBouncer's configuration.
POOLER_SETTINGS = ("application_name", "timezone")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PooledConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


class UnresetConnection(asyncpg.Connection):
    """A connection that is returned to the pool without a reset, as no statement of the service changes the session."""

    def get_reset_query(self) -> str:
        """Return an empty query. This saves a round trip for every release to the pool."""
        return ""


def session_settings(*, pooler: bool) -> dict[str, str]:
    """Return the settings that a connection sends when it is opened."""
    return {name: SESSION[name] for name in POOLER_SETTINGS} if pooler else SESSION


def connect_options(*, pooler: bool) -> dict[str, Any]:
    """Return the options of `asyncpg.connect`.

    Behind a pooler asyncpg must not cache prepared statements, as they belong to another server connection after the
    end of a transaction.
    """
    return {"statement_cache_size": 0} if pooler else {}


def create_pool(
    dsn: str, size: int, settings: Mapping[str, str], *, timeout: float, command_timeout: float, pooler: bool
) -> Pool:
    """Return a pool of `size` connections. The connections are opened when the pool is awaited.

    Args:
        dsn: the URL of the database.
        size: the number of connections.
        settings: the session settings, by name.
        timeout: how many seconds opening a connection may take.
        command_timeout: how many seconds a statement may take.
        pooler: whether the URL is that of a pooler.
    """
    return asyncpg.create_pool(
        dsn,
        min_size=size,
        max_size=size,
        timeout=timeout,
        command_timeout=command_timeout,
        connection_class=UnresetConnection,
        server_settings=dict(settings),
        **connect_options(pooler=pooler),
    )


async def missing_session_settings(connection: Connection) -> list[str]:
    """List the settings, as `name = value`, that the pooler does not set on its server connections."""
    rows = await connection.fetch("SELECT name, setting, unit FROM pg_settings")
    actual = {row["name"]: f"{row['setting']}{row['unit'] or ''}" for row in rows}
    # tcp_keepalives_idle concerns the connection between PgBouncer and the server, which PgBouncer configures itself.
    expected = SESSION.keys() - {*POOLER_SETTINGS, "tcp_keepalives_idle"}
    return sorted(f"{name} = {SESSION[name]}" for name in expected if actual[name] != SESSION[name])


class Connections:
    """Provides the connections of a pool, each for one statement or one transaction at a time.

    asyncpg's pool opens the connections and replaces lost connections. Releasing a connection to the pool and acquiring
    it again costs nearly as much as a small statement. A usable connection therefore stays in a list of spare
    connections as long as no call waits for the pool.
    """

    def __init__(self, pool: Pool, timeout: float) -> None:
        """Use an open pool. `timeout` is how many seconds `acquire` waits for a free connection."""
        self._pool, self._timeout = pool, timeout
        self._spare: list[PooledConnection] = []
        self._releases: set[asyncio.Task[None]] = set()
        self._waiting = 0

    @property
    def open(self) -> int:
        """The number of open connections."""
        return self._pool.get_size()

    @property
    def idle(self) -> int:
        """The number of open connections that are not in use."""
        return self._pool.get_idle_size() + sum(map(_is_usable, self._spare))

    @property
    def limit(self) -> int:
        """The largest number of open connections."""
        return self._pool.get_max_size()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PooledConnection]:
        """Yield a connection. A connection error in the block closes the connection.

        Raises:
            DatabaseBusy: no connection was released in time.
            DatabaseUnreachable: a connection is missing and cannot be opened.
        """
        connection = await self._take()
        try:
            yield connection
        except TIMEOUT_ERRORS:  # before CONNECTION_ERRORS, which include timeouts
            self._release_in_background(connection)
            raise
        except BaseException as error:
            if isinstance(error, CONNECTION_ERRORS):
                with suppress(asyncpg.InterfaceError):  # the pool may have closed the connection already
                    connection.terminate()
            await self._release(connection)
            raise
        if _is_usable(connection) and not self._waiting:
            self._spare.append(connection)
        else:
            await self._release(connection)

    async def close(self) -> None:
        """Close the pool as soon as every connection is released."""
        self._waiting += 1  # so that connections are released to the pool and not kept as spare connections
        while self._spare:
            await self._release(self._spare.pop())
        await self._pool.close()

    async def _take(self) -> PooledConnection:
        while self._spare:
            connection = self._spare.pop()
            if _is_usable(connection):
                return connection
            await self._release(connection)
        self._waiting += 1
        try:
            return await self._pool.acquire(timeout=self._timeout)
        except asyncio.TimeoutError as error:  # before UNREACHABLE_ERRORS, which include it
            if self.open < self.limit:
                raise unreachable(error) from error
            raise DatabaseBusy("timed out waiting for a database connection") from None
        except UNREACHABLE_ERRORS as error:
            raise unreachable(error) from error
        finally:
            self._waiting -= 1

    def _release_in_background(self, connection: PooledConnection) -> None:
        """Release a connection without a wait.

        asyncpg cancels the statement first, and an unresponsive server delays this cancellation.
        """
        task = asyncio.create_task(self._release(connection))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _release(self, connection: PooledConnection) -> None:
        # The result of the statement is already known, and an error during the release does not change the result.
        with suppress(*UNREACHABLE_ERRORS):
            try:
                if connection.is_in_transaction():  # the pool would roll back too, but would also log an error
                    await connection.execute("ROLLBACK")
            except UNREACHABLE_ERRORS:
                connection.terminate()
            finally:
                await self._pool.release(connection)


def _is_usable(connection: PooledConnection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # the connection was lost and has been returned to the pool
        return False
