"""Runs statements in one transaction."""

from collections.abc import Callable, Mapping, Sequence

from alerts_service.db.pool import PooledConnection
from alerts_service.db.queries import Query
from alerts_service.db.statement_runner import BULK_BATCH_SIZE, Converted, StatementRunner, records_by_batch_index
from alerts_service.db.statements import Row, Statement


class Transaction(StatementRunner):
    """Runs statements one after the other in a transaction on one connection.

    Errors of the driver are raised unchanged; `Database.transaction` translates them.
    """

    def __init__(self, queries: Mapping[str, Query], connection: PooledConnection) -> None:
        self._queries, self._connection = queries, connection

    async def one_or_none(self, statement: Statement[Row], /, **parameters: object) -> Row | None:
        """Run a statement, and return its row, or None if it returns no row."""
        query = self._queries[statement.name]
        record = await self._connection.fetchrow(query.sql, *[[value] for value in query.arguments(parameters)])
        return statement.decode(record)

    async def many(
        self,
        statement: Statement[Row],
        items: Sequence[Mapping[str, object]],
        convert: Callable[[Row], Converted],
        *,
        batch_size: int = BULK_BATCH_SIZE,
    ) -> list[Converted | Exception | None]:
        """Run a statement for many items, as `StatementRunner.many` does.

        Unlike in `Database.many`, an error is raised and aborts the transaction. No result is an exception.

        `batch_size` applies to read-only statements. Other statements are sent once, with all items: a single statement
        locks its rows in one order, and several statements could deadlock.
        """
        query = self._queries[statement.name]
        arguments = [query.arguments(item) for item in items]
        if not query.read_only:
            batch_size = max(1, len(items))
        results: list[Converted | Exception | None] = []
        for start in range(0, len(arguments), batch_size):
            batch = arguments[start : start + batch_size]
            records = await self._connection.fetch(query.sql, *zip(*batch, strict=True))
            results += [
                None if record is None else convert(statement.decode(record))
                for record in records_by_batch_index(records, len(batch))
            ]
        return results
