"""The interface of `Database`, `Transaction` and `UnavailableDatabase`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import asyncpg

from alerts_service.db.statements import Row, Statement

# The number of items of a bulk call in one statement. It is small so that single requests do not wait long for the end
# of the statement.
BULK_BATCH_SIZE = 250

Arguments: TypeAlias = "tuple[object, ...]"
Converted = TypeVar("Converted")


class StatementRunner(ABC):
    """Runs declared statements."""

    @abstractmethod
    async def one_or_none(self, statement: Statement[Row], /, **parameters: object) -> Row | None:
        """Run a statement, and return its row, or None if it returns no row."""

    @abstractmethod
    async def many(
        self,
        statement: Statement[Row],
        items: Sequence[Mapping[str, object]],
        convert: Callable[[Row], Converted],
        *,
        batch_size: int = BULK_BATCH_SIZE,
    ) -> list[Converted | Exception | None]:
        """Run a statement for many items, and return `convert(row)` for each item.

        If the statement returns no row for an item, its result is None. If an item failed, its result is an exception.

        Args:
            statement: the statement to run.
            items: the parameters of each item.
            convert: called with the rows of a batch before the next batch is sent. This limits the memory for large
                rows.
            batch_size: how many items are sent in one statement.
        """

    async def one(self, statement: Statement[Row], /, **parameters: object) -> Row:
        """Run a statement that always returns a row, and return the row.

        Raises:
            LookupError: the statement returned no row.
        """
        row = await self.one_or_none(statement, **parameters)
        if row is None:
            raise LookupError(f"{statement.name} returned no row")
        return row


def records_by_batch_index(records: Sequence[asyncpg.Record], count: int) -> list[asyncpg.Record | None]:
    """Return a list of `count` records in the order of their column `batch_index`, which starts at 1.

    The list contains None in place of each missing record.
    """
    ordered: list[asyncpg.Record | None] = [None] * count
    for record in records:
        ordered[record["batch_index"] - 1] = record
    return ordered
