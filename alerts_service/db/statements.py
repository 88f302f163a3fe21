"""Declarations of the SQL statements that the service runs."""

from typing import Any, Generic, TypeVar

from msgspec import Struct

Row = TypeVar("Row", bound=Struct)

# All declared statements, by name. The schema check compares them with the files below sql/queries.
STATEMENTS: dict[str, "Statement[Any]"] = {}


class Statement(Generic[Row]):
    """A file below sql/queries, named by its path without `.sql`, and the Struct of its rows.

    Args:
        name: the path of the file below sql/queries, without `.sql`.
        row: the Struct of a row: the columns behind `batch_index`, in their order.
        parameters: a TypedDict or Struct of the parameters of one call. The schema check compares its names and types
            with the header of the file. It has no effect at run time.
        dedicated_connection: whether the statement has a connection to itself, so that it never waits for another.
        max_batch_size: how many calls a batch may hold. The larger a row, or its cost, the fewer.
        max_in_flight: how many batches may be sent at a time.
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
        self.name = name
        self.row = row
        self.parameters = parameters
        self.dedicated_connection = dedicated_connection
        self.max_batch_size = max_batch_size
        self.max_in_flight = max_in_flight
        STATEMENTS[name] = self
