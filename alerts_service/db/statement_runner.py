"""What `Database`, `Transaction` and `UnavailableDatabase` have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

import asyncpg

from alerts_service.db.statements import Row, Statement

# Items of a bulk call that are sent in one statement, few enough that single requests do not wait long for its end.
BULK_BATCH_SIZE = 250

Arguments: TypeAlias = "tuple[object, ...]"
Converted = TypeVar("Converted")


class StatementRunner(Protocol):
    """Runs declared statements."""

    async def one_or_none(self, statement: Statement[Row], /, **parameters: object) -> Row | None:
        """Run a statement for one item, and return its row, or None if it has none."""

    async def many(
        self,
        statement: Statement[Row],
        items: Sequence[Mapping[str, object]],
        convert: Callable[[Row], Converted],
        *,
        batch_size: int = BULK_BATCH_SIZE,
    ) -> list[Converted | Exception | None]:
        """Run a statement for many items, and return `convert` of each row.

        The result of an item is None if the statement returns no row for it, and an exception if it failed.

        Args:
            statement: the statement to run.
            items: the parameters of each item.
            convert: applied to the rows of a batch before the next batch is sent. This bounds the memory for large
                rows.
            batch_size: how many items are sent in one statement.
        """

    async def one(self, statement: Statement[Row], /, **parameters: object) -> Row:
        """Run a statement that returns a row for every item, and return the row.

        Raises:
            LookupError: the statement returned no row.
        """
        row = await self.one_or_none(statement, **parameters)
        if row is None:
            raise LookupError(f"{statement.name} returned no row")
        return row


def records_by_item(records: Sequence[asyncpg.Record], count: int) -> list[asyncpg.Record | None]:
    """Return the record of each of `count` items, or None, by the column `batch_index`, which starts at 1."""
    ordered: list[asyncpg.Record | None] = [None] * count
    for record in records:
        ordered[record["batch_index"] - 1] = record
    return ordered
