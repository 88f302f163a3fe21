"""The database of a process that has no connection to PostgreSQL yet."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

from alerts_service.db.statement_runner import BULK_BATCH_SIZE, Converted, StatementRunner
from alerts_service.db.statements import Row, Statement
from alerts_service.errors import DatabaseUnreachable


class UnavailableDatabase(StatementRunner):
    """Fails every statement with DatabaseUnreachable. The service uses this class until the database is ready."""

    async def one_or_none(self, statement: Statement[Row], /, **_parameters: object) -> NoReturn:
        """Raise DatabaseUnreachable."""
        del statement
        raise DatabaseUnreachable

    async def many(
        self,
        statement: Statement[Row],
        items: Sequence[Mapping[str, object]],
        convert: Callable[[Row], Converted],
        *,
        batch_size: int = BULK_BATCH_SIZE,
    ) -> list[Converted | Exception | None]:
        """Return DatabaseUnreachable for each item."""
        del statement, convert, batch_size
        return [DatabaseUnreachable()] * len(items)

    @asynccontextmanager
    async def transaction(self, key: Hashable) -> AsyncIterator[StatementRunner]:
        """Raise DatabaseUnreachable."""
        del key
        raise DatabaseUnreachable
        yield self
