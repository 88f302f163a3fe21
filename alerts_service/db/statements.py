"""Declarations of the SQL statements that the service runs."""

from typing import Any, Generic, TypeVar, overload

import asyncpg
from msgspec import Struct

Row = TypeVar("Row", bound=Struct)

# All declared statements, by name. A feature declares its statements when it is imported. The schema check compares
# them with the files below sql/queries.
STATEMENTS: dict[str, "Statement[Any]"] = {}


class Statement(Generic[Row]):
    """A file below sql/queries, and the Struct of its rows.

    Args:
        name: the path of the file below sql/queries, without `.sql`.
        row: the Struct of a row: the columns after `batch_index`, in their order.
        parameters: a TypedDict or Struct of the parameters of one call. The schema check compares its names and types
            with the header of the file. It has no effect after startup.
        dedicated_connection: whether the statement uses the dedicated connection, so that it never waits for other
            statements.
        max_batch_size: the largest number of concurrent calls in a batch; small for large or expensive rows.
        max_in_flight: how many such batches may be sent at a time. `many` and transactions do not use these limits.

    Raises:
        ValueError: a statement with this name is already declared.
    """

    def __init__(
        self,
        name: str,
        row: type[Row],
        *,
        parameters: type | None = None,
        dedicated_connection: bool = False,
        max_batch_size: int = 64,
        max_in_flight: int = 2,
    ) -> None:
        if name in STATEMENTS:
            raise ValueError(f"the statement {name} is already declared")
        self.name = name
        self.row = row
        self.parameters = parameters
        self.dedicated_connection = dedicated_connection
        self.max_batch_size = max_batch_size
        self.max_in_flight = max_in_flight
        STATEMENTS[name] = self

    @overload
    def decode(self, record: asyncpg.Record) -> Row: ...

    @overload
    def decode(self, record: asyncpg.Record | None) -> Row | None: ...

    def decode(self, record: asyncpg.Record | None) -> Row | None:
        """Return the Struct of a record without its `batch_index`, or None if there is no record."""
        return None if record is None else self.row(*record[1:])
