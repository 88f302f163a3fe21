"""The corridor between a controller and its .sql file: the files, their calls, and rows that become Structs."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Generic, NoReturn, TypeAlias, TypeVar

import asyncpg
from msgspec import Struct

from alerts_service.db.batching import Batcher, FairSemaphore, QueueFull, QueueTimeout
from alerts_service.db.pool import (
    CONNECTION_ERRORS,
    HEALTH_SESSION,
    SESSION,
    TIMEOUT_ERRORS,
    UNREACHABLE_ERRORS,
    Connections,
    PlainConnection,
    Pool,
    PooledConnection,
    options,
    out_of_resources,
    session,
    startup_error,
    unreachable,
)
from alerts_service.db.queries import Query, load_queries
from alerts_service.errors import (
    ApiError,
    DatabaseBusy,
    DatabaseUnreachable,
    OutcomeUnknown,
    OutOfResources,
    StatementTimeout,
    ValidationFailed,
)

logger = logging.getLogger(__name__)

# Errors that the server reports of a statement, by which it has undone the statement. A batch that failed so is sent
# again in parts: what one call causes fails no other. (Errors of the connection have become other exceptions by then.)
ROLLED_BACK_ERRORS = (ValidationFailed, OutOfResources, asyncpg.PostgresError)
FAILED = (QueueFull, QueueTimeout, ApiError, asyncpg.PostgresError)
NO_DATABASE = (DatabaseBusy, DatabaseUnreachable, OutcomeUnknown)

# How many calls of one caller leave as one statement, and how many such statements of all callers at a time: so nobody
# who asks for little waits long behind those who ask for much. One that fails is cut into so many parts.
AT_ONCE = 250
MAX_BULK_STATEMENTS = 2
SPLIT_INTO = 16

# What a call meets that does not get as far as others, and what a connection meets.
CONTENTION_ERRORS = (QueueFull, QueueTimeout, asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
FAULTS = (asyncio.TimeoutError, asyncpg.DataError, asyncpg.InsufficientResourcesError, *CONNECTION_ERRORS)

# A process that vanished from the network within a transaction does not hold up others for long.
BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'"

Ask: TypeAlias = "tuple[object, ...]"
Found: TypeAlias = "asyncpg.Record | None"
Outcome: TypeAlias = "asyncpg.Record | Exception | None"
Row = TypeVar("Row", bound=Struct)
Kept = TypeVar("Kept")

CONNECT_SECONDS = 3.0


class Statement(Generic[Row]):
    """Names a file below sql/queries, without `.sql`, and the Struct that each of its rows becomes.

    One that is `apart` has a connection of its own, whatever the others wait for. A batch holds up to `max_batch_size`
    calls, and up to `max_in_flight` batches are sent at a time: the larger a row or its cost, the fewer.
    """

    declared: ClassVar[dict[str, "Statement[Any]"]] = {}

    def __init__(
        self, name: str, row: type[Row], *, apart: bool = False, max_batch_size: int = 64, max_in_flight: int = 2
    ) -> None:
        self.name = name
        self.row = row
        self.apart = apart
        self.max_batch_size = max_batch_size
        self.max_in_flight = max_in_flight
        self.declared[name] = self


class Database:
    """Runs statements.

    Each SQL file serves a batch of calls: its parameters are arrays, and its column `batch_index` numbers the calls.
    So calls that come together leave as one statement, equal ones as one where nothing is changed.

    A method raises, and `many` returns for a call, DatabaseBusy when too many calls wait, no connection comes free or
    the statement is not done in time, OutcomeUnknown when that was a change, DatabaseUnreachable when there is no
    connection or it is lost, Invalid when the database cannot hold a value.
    """

    def __init__(
        self,
        queries: Mapping[str, Query],
        connections: Connections,
        queue_timeout: float,
        apart: Connections | None = None,
    ) -> None:
        """A call waits `patience` seconds at most until it leaves."""
        self.connections = connections
        self._apart = apart or connections
        self._queue_timeout = queue_timeout
        self._queries = queries
        self._groups = {name: self._group(name, query) for name, query in queries.items() if name in Statement.declared}
        # Transactions take long, so they leave a connection to all others.
        self._turns = FairSemaphore(max_in_flight=max(1, connections.limit - 1), queue_timeout=queue_timeout)
        self._bulk = Batcher(
            self._send_bulk, max_in_flight=MAX_BULK_STATEMENTS, max_batch_size=1, queue_timeout=queue_timeout
        )

    def _group(self, name: str, query: Query) -> Batcher[Ask, Found]:
        statement = Statement.declared[name]
        connections = self._apart if statement.apart else self.connections

        async def send(asks: Sequence[Ask]) -> list[Found]:
            return await self._send(connections, query, asks)

        async def send_once(asks: Sequence[Ask]) -> list[Found]:
            if len(asks) == 1:
                return await send(asks)
            distinct = list(dict.fromkeys(asks))
            answers = dict(zip(distinct, await send(distinct), strict=True))
            return [answers[ask] for ask in asks]

        return Batcher(
            send_once if query.shared else send,
            max_in_flight=statement.max_in_flight,
            max_batch_size=statement.max_batch_size,
            queue_timeout=self._queue_timeout,
            split_on=ROLLED_BACK_ERRORS,
            retry_on=(StatementTimeout,),
        )

    async def one_or_none(self, statement: Statement[Row], /, **arguments: object) -> Row | None:
        """Run a statement for one call and return the row of it, or None where it has none."""
        values = self._queries[statement.name].values(arguments)
        try:
            record = await self._groups[statement.name](arguments.get("tenant_id"), values)
        except CONTENTION_ERRORS as error:
            raise _held_up(error) from None
        return None if record is None else statement.row(*record[1:])

    async def one(self, statement: Statement[Row], /, **arguments: object) -> Row:
        """Run a statement that always has a row for a call, and return it."""
        row = await self.one_or_none(statement, **arguments)
        if row is None:
            raise LookupError(statement.name)
        return row

    @asynccontextmanager
    async def transaction(self, key: Hashable) -> AsyncIterator["Database"]:
        """Yield a database on which all that is changed is changed together at the end, or not at all if it raises.

        Those who wait for a turn take turns by their keys.
        """
        committing = False
        try:
            async with self._turns.slot(key), self.connections.one() as connection:
                await connection.execute(BEGIN)
                yield Transaction(self._queries, connection)
                committing = True
                await connection.execute("COMMIT")
        except CONTENTION_ERRORS as error:
            raise _held_up(error) from None
        except FAULTS as error:
            raise _fault(error, changes=committing) from error

    async def many(
        self,
        statement: Statement[Row],
        calls: Sequence[Mapping[str, object]],
        keep: Callable[[Row], Kept],
        *,
        at_once: int = AT_ONCE,
    ) -> list[Kept | Exception | None]:
        """Run a statement for many calls of one caller, and return what to keep of each row.

        That is None for a call without a row, and the exception for one that failed.

        They leave a part at a time, and `keep` is applied to a part before the next one leaves: it bounds the memory
        that large rows take. When the database fails on all of one, those behind it are not tried. Callers take turns
        by the tenant of the first of their calls.
        """
        query = self._queries[statement.name]
        asks = [query.values(call) for call in calls]
        key = calls[0].get("tenant_id") if calls else None
        outcomes: list[Kept | Exception | None] = []
        for start in range(0, len(asks), at_once):
            deadline = asyncio.get_running_loop().time() + self._queue_timeout
            part = await self._settle(key, query, asks[start : start + at_once], deadline)
            outcomes += [_kept(outcome, statement, keep) for outcome in part]
            unforeseen = [outcome for outcome in part if isinstance(outcome, Exception) and not _foreseen(outcome)]
            if unforeseen:
                logger.error("Unforeseen error in %s", statement.name, exc_info=unforeseen[0])
            if all(isinstance(outcome, (*NO_DATABASE, QueueFull)) for outcome in part):
                untried = DatabaseBusy("not tried, as the database failed on what came before it")
                outcomes += [untried] * (len(asks) - len(outcomes))
                break
            del part  # the next one may be as large
        return outcomes

    async def _settle(self, key: object, query: Query, asks: Sequence[Ask], deadline: float) -> Sequence[Outcome]:
        """Send calls together; when nothing was done for all of them, in smaller parts, down to each alone.

        A row that somebody holds on to is waited for once on each of a few levels, and few calls go alone: each of
        these waits for the disk.
        """
        try:
            if asyncio.get_running_loop().time() > deadline:
                raise QueueTimeout
            return await self._bulk(key, (query, asks))
        except ROLLED_BACK_ERRORS as error:
            if len(asks) > 1:
                size = math.ceil(len(asks) / SPLIT_INTO)
                parts = [asks[start : start + size] for start in range(0, len(asks), size)]
                return [outcome for part in parts for outcome in await self._settle(key, query, part, deadline)]
            failure: Exception = error
        except FAILED as error:
            failure = error
        return [failure] * len(asks)

    async def _send_bulk(self, asks: Sequence[tuple[Query, Sequence[Ask]]]) -> list[list[Found]]:
        return [await self._send(self.connections, query, part) for query, part in asks]

    async def _send(self, connections: Connections, query: Query, asks: Sequence[Ask]) -> list[Found]:
        return _placed(await self._fetch(connections, query, list(zip(*asks, strict=True))), len(asks))

    async def _fetch(self, connections: Connections, query: Query, values: Sequence[object]) -> list[asyncpg.Record]:
        try:
            async with connections.one() as connection:
                return await connection.fetch(query.sql, *values)
        except FAULTS as error:
            raise _fault(error, changes=not query.shared) from error


def _placed(records: Sequence[asyncpg.Record], count: int) -> list[Found]:
    """Give each call its row, or None."""
    answers: list[Found] = [None] * count
    for record in records:
        answers[record["batch_index"] - 1] = record
    return answers


class Transaction(Database):
    """Runs statements one after the other on one connection. What they meet is told at the end of the transaction."""

    def __init__(self, queries: Mapping[str, Query], connection: PooledConnection) -> None:
        self._queries, self._connection = queries, connection

    async def one_or_none(self, statement: Statement[Row], /, **arguments: object) -> Row | None:
        """Run a statement for one call and return the row of it, or None where it has none."""
        query = self._queries[statement.name]
        record = await self._connection.fetchrow(query.sql, *[[value] for value in query.values(arguments)])
        return None if record is None else statement.row(*record[1:])

    async def many(
        self,
        statement: Statement[Row],
        calls: Sequence[Mapping[str, object]],
        keep: Callable[[Row], Kept],
        *,
        at_once: int = AT_ONCE,
    ) -> list[Kept | Exception | None]:
        """Run a statement for many calls and return what to keep of each one's row, or None without one.

        What fails undoes them all.
        """
        query = self._queries[statement.name]
        asks = [query.values(call) for call in calls]
        if not query.shared:
            at_once = max(1, len(asks))  # rows are locked in one order within a statement
        kept: list[Kept | Exception | None] = []
        for start in range(0, len(asks), at_once):
            part = asks[start : start + at_once]
            found = _placed(await self._connection.fetch(query.sql, *zip(*part, strict=True)), len(part))
            kept += [_kept(record, statement, keep) for record in found]
        return kept


class UnavailableDatabase(Database):
    """Stands in for a database that is not there yet."""

    def __init__(self) -> None:
        pass

    async def one_or_none(self, *_: object, **__: object) -> NoReturn:
        """Run nothing."""
        raise DatabaseUnreachable

    @asynccontextmanager
    async def transaction(self, _: Hashable) -> AsyncIterator[Database]:
        """Begin nothing."""
        raise DatabaseUnreachable
        yield self

    async def many(
        self,
        _: object,
        calls: Sequence[object],
        *__: object,
        at_once: int = AT_ONCE,  # noqa: ARG002 - callers pass it by name, as to Database.many
    ) -> list[Any]:
        """Run nothing."""
        return [DatabaseUnreachable()] * len(calls)


def _kept(outcome: Outcome, statement: Statement[Row], keep: Callable[[Row], Kept]) -> Kept | Exception | None:
    if isinstance(outcome, asyncpg.Record):
        return keep(statement.row(*outcome[1:]))
    return _held_up(outcome) if isinstance(outcome, CONTENTION_ERRORS) else outcome


def _foreseen(error: Exception) -> bool:
    return isinstance(error, (ApiError, *CONTENTION_ERRORS))


def _held_up(error: Exception) -> DatabaseBusy:
    """Say why a call did not get as far as others."""
    if isinstance(error, QueueFull):
        return DatabaseBusy("too many requests wait for the database")
    if isinstance(error, QueueTimeout):
        return DatabaseBusy("the database did not get round to this in time")
    return DatabaseBusy("somebody holds on to what this waited for")


def _fault(error: Exception, *, changes: bool) -> ApiError:
    """Say what became of a statement, which may have changed something where it `changes` anything."""
    if not changes and isinstance(error, TIMEOUT_ERRORS):
        return StatementTimeout("the statement was not done in time")
    if isinstance(error, asyncpg.QueryCanceledError):
        return DatabaseBusy("the statement was not done in time")
    if isinstance(error, asyncio.TimeoutError):
        return OutcomeUnknown("the change was not done in time; it may still have been made")
    if isinstance(error, asyncpg.DataError):
        return ValidationFailed("the database cannot hold a value of this request")
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return out_of_resources(error)
    return unreachable(error)


@asynccontextmanager
async def open_database(
    dsn: str, *, pool_size: int, pool_timeout: float, statement_timeout: float, pooler: bool = False
) -> AsyncIterator[Database]:
    """Open `pool_size` connections and one for what stands apart, and close them in the end. Timeouts are in seconds.

    A `pooler` between here and the server gives every transaction any of its connections to the server: nothing that
    is prepared is kept.

    Who still holds one after `pool_timeout`, or a server that is silent, does not keep the end from coming.

    Raises:
        StartupError: the server does not give so many connections.
    """

    def pool(size: int, session: Mapping[str, str]) -> Pool:
        return asyncpg.create_pool(
            dsn,
            min_size=size,
            max_size=size,
            timeout=max(pool_timeout, CONNECT_SECONDS),
            command_timeout=statement_timeout,
            connection_class=PlainConnection,
            server_settings=dict(session),
            **options(pooler=pooler),
        )

    many = pool(pool_size, session(pooler=pooler))
    apart = pool(1, {"application_name": SESSION["application_name"]} if pooler else HEALTH_SESSION)
    for outcome in await asyncio.gather(many, apart, return_exceptions=True):
        if isinstance(outcome, BaseException):
            many.terminate()
            apart.terminate()
            if isinstance(outcome, UNREACHABLE_ERRORS):
                raise startup_error(f"no {pool_size + 1} connections to the database", outcome) from None
            raise outcome
    connections = [Connections(each, pool_timeout) for each in (many, apart)]
    try:
        yield Database(load_queries(), connections[0], pool_timeout, connections[1])
    finally:
        try:
            await asyncio.wait_for(asyncio.gather(*(each.close() for each in connections)), pool_timeout)
        except (asyncio.TimeoutError, *CONNECTION_ERRORS):
            many.terminate()
            apart.terminate()
