"""Runs declared statements on pools of connections, and combines concurrent calls into batches."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import asyncpg

from alerts_service.db.batching import Batcher
from alerts_service.db.error_mapping import (
    ABORTING_ERRORS,
    CONNECTION_ERRORS,
    CONTENTION_ERRORS,
    ROLLED_BACK_ERRORS,
    STATEMENT_ERRORS,
    TRANSLATED_ERRORS,
    UNREACHABLE_ERRORS,
    contention_error,
    startup_error,
    statement_error,
)
from alerts_service.db.fair_queue import QueueTimeout
from alerts_service.db.fair_semaphore import FairSemaphore
from alerts_service.db.pool import (
    HEALTH_SESSION,
    SESSION,
    Connections,
    Pool,
    create_pool,
    session_settings,
)
from alerts_service.db.queries import Query, load_queries
from alerts_service.db.statement_runner import (
    BULK_BATCH_SIZE,
    Arguments,
    Converted,
    StatementRunner,
    records_by_batch_index,
)
from alerts_service.db.statements import STATEMENTS, Row, Statement
from alerts_service.db.transaction import Transaction
from alerts_service.errors import ApiError, DatabaseBusy, StatementTimeout

__all__ = ["CONNECT_TIMEOUT_SECONDS", "MAX_BULK_STATEMENTS", "Database", "Statement", "open_database"]

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 3.0

# The number of bulk statements of a process that run at a time outside transactions. It is small so that single
# requests find a free connection.
MAX_BULK_STATEMENTS = 2
# A failed bulk batch is split into this many parts: 250 items, then 16, then 1.
PARTS_OF_FAILED_BULK = 16

# If a process loses its network connection, the timeout ends its transaction and so releases the locks.
BEGIN_TRANSACTION = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'"

RecordOrError: TypeAlias = "asyncpg.Record | Exception | None"


class Database(StatementRunner):
    """Runs statements on a pool of connections.

    Every SQL file that serves requests takes a batch: its parameters are arrays with one element for each call, and its
    column `batch_index` is the position of the call. Concurrent calls of `one` and `one_or_none` are combined into a
    batch. Equal calls in a batch of a read-only statement are sent once.

    All methods raise the following exceptions; `many` returns them as the results of items:

    - DatabaseBusy: a queue is full, a timeout expired before the statement was sent, a lock or another resource is not
      available, or the server canceled the statement. Nothing was changed.
    - OutcomeUnknown: a statement that changes data, or the COMMIT of a transaction, had no response in time.
    - DatabaseUnreachable: no connection can be opened, or the connection was lost.
    - ValidationFailed: the database cannot store a value.
    """

    def __init__(
        self,
        queries: Mapping[str, Query],
        connections: Connections,
        queue_timeout: float,
        dedicated_connections: Connections | None = None,
    ) -> None:
        """Create the queues of all declared statements.

        Args:
            queries: the SQL files, by the name of their statement.
            connections: the pool of all statements without a dedicated connection.
            queue_timeout: how many seconds a call may be queued before its statement is sent.
            dedicated_connections: the pool of statements with a dedicated connection; `connections` by default.
        """
        self.connections = connections
        self._dedicated_connections = dedicated_connections or connections
        self._queue_timeout = queue_timeout
        self._queries = queries
        self._batchers = {name: self._batcher(STATEMENTS[name], queries[name]) for name in queries.keys() & STATEMENTS}
        # Transactions hold connections for long, so one connection is kept free of transactions, unless the pool has
        # only one. Transactions and bulk statements together can occupy the pool: single statements then wait for it.
        self._transaction_slots = FairSemaphore(
            max_in_flight=max(1, connections.limit - 1), queue_timeout=queue_timeout
        )
        self._bulk_slots = FairSemaphore(max_in_flight=MAX_BULK_STATEMENTS, queue_timeout=queue_timeout)

    def _batcher(self, statement: Statement[Any], query: Query) -> Batcher[Arguments, asyncpg.Record | None]:
        connections = self._dedicated_connections if statement.dedicated_connection else self.connections

        async def send(batch: Sequence[Arguments]) -> list[asyncpg.Record | None]:
            return await self._fetch_batch(connections, query, batch)

        async def send_distinct(batch: Sequence[Arguments]) -> list[asyncpg.Record | None]:
            if len(batch) == 1:
                return await send(batch)
            distinct = list(dict.fromkeys(batch))
            records = dict(zip(distinct, await send(distinct), strict=True))
            return [records[arguments] for arguments in batch]

        return Batcher(
            send_distinct if query.read_only else send,
            max_in_flight=statement.max_in_flight,
            max_batch_size=statement.max_batch_size,
            queue_timeout=self._queue_timeout,
            split_on=ROLLED_BACK_ERRORS,
            retry_on=(StatementTimeout,),
        )

    async def one_or_none(self, statement: Statement[Row], /, **parameters: object) -> Row | None:
        """Run a statement in a batch with concurrent calls, and return the row of this call, or None.

        The key of the queue is the parameter `tenant_id`, or None if the statement has no such parameter.
        """
        arguments = self._queries[statement.name].arguments(parameters)
        try:
            record = await self._batchers[statement.name](parameters.get("tenant_id"), arguments)
        except CONTENTION_ERRORS as error:
            raise contention_error(error) from None
        return statement.decode(record)

    @asynccontextmanager
    async def transaction(self, key: Hashable) -> AsyncIterator[Transaction]:
        """Run the statements of the block in a transaction: commit at the end, roll back if the block raises.

        Queued transactions are served round-robin by key.
        """
        committing = False
        try:
            async with self._transaction_slots.slot(key), self.connections.acquire() as connection:
                await connection.execute(BEGIN_TRANSACTION)
                yield Transaction(self._queries, connection)
                committing = True
                await connection.execute("COMMIT")
        except CONTENTION_ERRORS as error:
            raise contention_error(error) from None
        except TRANSLATED_ERRORS as error:
            raise statement_error(error, may_be_committed=committing) from error

    async def many(
        self,
        statement: Statement[Row],
        items: Sequence[Mapping[str, object]],
        convert: Callable[[Row], Converted],
        *,
        batch_size: int = BULK_BATCH_SIZE,
    ) -> list[Converted | Exception | None]:
        """Run a statement for many items, as `StatementRunner.many` does, one batch after the other.

        If a batch fails, parts of it are sent only until `queue_timeout` seconds after its beginning. If all items of a
        batch fail with one of ABORTING_ERRORS, the following batches are skipped. Bulk statements are served
        round-robin by the tenant of the first item of their call.
        """
        query = self._queries[statement.name]
        batches = _batches_of([query.arguments(item) for item in items], batch_size)
        key = items[0].get("tenant_id") if items else None
        results: list[Converted | Exception | None] = []
        for batch in batches:
            deadline = asyncio.get_running_loop().time() + self._queue_timeout
            records = await self._execute_splitting(key, query, batch, deadline)
            _log_unexpected(statement, records)
            results += [_result(record, statement, convert) for record in records]
            if all(isinstance(record, ABORTING_ERRORS) for record in records):
                skipped = DatabaseBusy("skipped: an earlier batch failed")
                return results + [skipped] * (len(items) - len(results))
            del records  # so that the memory never holds the rows of two batches
        return results

    async def _execute_splitting(
        self, key: Hashable, query: Query, batch: Sequence[Arguments], deadline: float
    ) -> Sequence[RecordOrError]:
        """Execute a batch. If it was rolled back, execute it in smaller parts, down to single items.

        More levels would cost more lock timeouts for a locked row, and more single items would cost more commits:
        250, 16 and 1 items per part balance both.
        """
        try:
            if asyncio.get_running_loop().time() > deadline:
                raise QueueTimeout
            async with self._bulk_slots.slot(key):
                return await self._fetch_batch(self.connections, query, batch)
        except ROLLED_BACK_ERRORS as error:  # before STATEMENT_ERRORS, which includes this group
            failure: Exception = error
        except STATEMENT_ERRORS as error:
            return [error] * len(batch)
        if len(batch) == 1:
            return [failure]
        parts = _batches_of(batch, math.ceil(len(batch) / PARTS_OF_FAILED_BULK))
        return [record for part in parts for record in await self._execute_splitting(key, query, part, deadline)]

    async def _fetch_batch(
        self, connections: Connections, query: Query, batch: Sequence[Arguments]
    ) -> list[asyncpg.Record | None]:
        records = await self._fetch(connections, query, list(zip(*batch, strict=True)))
        return records_by_batch_index(records, len(batch))

    async def _fetch(self, connections: Connections, query: Query, arrays: Sequence[object]) -> list[asyncpg.Record]:
        try:
            async with connections.acquire() as connection:
                return await connection.fetch(query.sql, *arrays)
        except TRANSLATED_ERRORS as error:
            raise statement_error(error, may_be_committed=not query.read_only) from error


def _batches_of(arguments: Sequence[Arguments], size: int) -> list[Sequence[Arguments]]:
    return [arguments[start : start + size] for start in range(0, len(arguments), size)]


def _result(
    record: RecordOrError, statement: Statement[Row], convert: Callable[[Row], Converted]
) -> Converted | Exception | None:
    if isinstance(record, asyncpg.Record):
        return convert(statement.decode(record))
    return contention_error(record) if isinstance(record, CONTENTION_ERRORS) else record


def _log_unexpected(statement: Statement[Any], records: Sequence[RecordOrError]) -> None:
    for record in records:
        if isinstance(record, Exception) and not isinstance(record, (ApiError, *CONTENTION_ERRORS)):
            logger.error("unexpected error in a bulk statement", exc_info=record, extra={"statement": statement.name})
            return


@asynccontextmanager
async def open_database(
    dsn: str, *, pool_size: int, pool_timeout: float, statement_timeout: float, pooler: bool = False
) -> AsyncIterator[Database]:
    """Open `pool_size` connections and a dedicated health connection, and close them when the block ends.

    Closing takes at most `pool_timeout` seconds. After that, the remaining connections are terminated.

    Args:
        dsn: the URL of the database.
        pool_size: the number of connections for all statements except the health check.
        pool_timeout: how many seconds a statement waits in a queue, and how many for a connection.
        statement_timeout: how many seconds a statement may take.
        pooler: whether the URL is that of a pooler such as PgBouncer, which may run each transaction on a different
            server connection. Prepared statements are then not kept.

    Raises:
        StartupError: the connections cannot be opened.
    """
    create = partial(
        create_pool,
        dsn,
        timeout=max(pool_timeout, CONNECT_TIMEOUT_SECONDS),
        command_timeout=statement_timeout,
        pooler=pooler,
    )
    health_settings = {"application_name": SESSION["application_name"]} if pooler else HEALTH_SESSION
    pools = (create(pool_size, session_settings(pooler=pooler)), create(1, health_settings))
    for outcome in await asyncio.gather(*pools, return_exceptions=True):
        if isinstance(outcome, BaseException):
            _terminate(pools)
            if isinstance(outcome, UNREACHABLE_ERRORS):
                raise startup_error(f"cannot open {pool_size + 1} database connections", outcome) from None
            raise outcome
    shared, dedicated = (Connections(pool, pool_timeout) for pool in pools)
    try:
        yield Database(load_queries(), shared, pool_timeout, dedicated)
    finally:
        try:
            await asyncio.wait_for(asyncio.gather(shared.close(), dedicated.close()), pool_timeout)
        except (asyncio.TimeoutError, *CONNECTION_ERRORS):
            _terminate(pools)


def _terminate(pools: Sequence[Pool]) -> None:
    for pool in pools:
        pool.terminate()
