"""The corridor between a controller and its .sql file: the pool, the files, and rows that become Structs."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from msgspec import Struct

from alerts_service.errors import DatabaseBusy, DatabaseUnreachable, Invalid, OutcomeUnknown, StartError
from alerts_service.grouping import Full, Group, Late

logger = logging.getLogger(__name__)

# The last one is what asyncpg says when the server ended the connection at the very moment of a call.
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)

# After these nothing was done, so what was asked in vain with others may be asked alone.
UNDONE = (Invalid, asyncpg.IntegrityConstraintViolationError, asyncpg.TransactionRollbackError)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row = TypeVar("Row", bound=Struct)

CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b")
LOCKS = re.compile(r"\b(UPDATE|DELETE|MERGE)\b")
PARAMETER = re.compile(r"^-- \$(?P<number>\d+) (?P<name>\w+) (?P<type>[^?\n]+)\??$", re.MULTILINE)


class Parameter(Struct, frozen=True):
    """A line `-- $1 name type` of a query's header; a `?` behind the type where null is meant."""

    number: int
    name: str
    type: str


class Query(Struct, frozen=True):
    """A file below sql/queries."""

    path: Path
    sql: str
    parameters: tuple[Parameter, ...]

    @property
    def grouped(self) -> bool:
        """Whether it answers many calls at once."""
        return all(parameter.type.endswith("[]") for parameter in self.parameters)

    @property
    def shared(self) -> bool:
        """Whether equal calls may have one answer: it changes nothing."""
        return CHANGES.search(self.sql) is None

    @property
    def locks(self) -> bool:
        """Whether it changes rows that are there: then each call goes by itself, lest a locked row hold up others."""
        return LOCKS.search(self.sql) is not None

    def values(self, arguments: Mapping[str, object]) -> tuple[object, ...]:
        """Put a call's arguments in the order of the parameters.

        Raises:
            TypeError: the call has others than the file.
        """
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.path.stem} takes {[parameter.name for parameter in self.parameters]}")
        return tuple([arguments[parameter.name] for parameter in self.parameters])


class Statement(Generic[Row]):
    """Names a file below sql/queries, without `.sql`, and the Struct that each of its rows becomes."""

    declared: ClassVar[dict[str, "Statement[Any]"]] = {}

    def __init__(self, name: str, row: type[Row]) -> None:
        self.name = name
        self.row = row
        self.declared[name] = self


class Database:
    """Runs statements on the pool.

    A file whose parameters are all arrays, or that has none, answers many calls at once: calls of `one` and
    `one_or_none` that come together leave as one statement, equal ones as one where nothing is changed. Its first
    column, `place`, says whose each row is.

    Every method raises DatabaseBusy when too many calls wait, no connection comes free or the statement is not done
    in time, OutcomeUnknown when that was a change, DatabaseUnreachable when there is no connection or it is lost,
    Invalid when the database cannot hold a value.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", queries: Mapping[str, Query], timeout: float) -> None:
        self.pool = pool
        self._timeout = timeout
        self._queries = queries
        self._groups = {name: self._group(query) for name, query in queries.items() if query.grouped}

    def _group(self, query: Query) -> Group[tuple[object, ...], asyncpg.Record | None]:
        async def send(asks: Sequence[tuple[object, ...]]) -> list[asyncpg.Record | None]:
            answers: list[asyncpg.Record | None] = [None] * len(asks)
            for record in await self._fetch(query, list(zip(*asks, strict=True))):
                answers[record["place"] - 1] = record
            return answers

        async def send_once(asks: Sequence[tuple[object, ...]]) -> list[asyncpg.Record | None]:
            distinct = list(dict.fromkeys(asks))
            answers = dict(zip(distinct, await send(distinct), strict=True))
            return [answers[ask] for ask in asks]

        if query.locks:
            return Group(send, flights=self.pool.get_max_size(), seats=1, patience=self._timeout)
        return Group(send_once if query.shared else send, patience=self._timeout, alone=UNDONE)

    async def one_or_none(self, statement: Statement[Row], /, **arguments: object) -> Row | None:
        """Run a grouped statement for one call and return the row of it, or None where it has none."""
        values = self._queries[statement.name].values(arguments)
        try:
            record = await self._groups[statement.name](arguments.get("tenant_id"), values)
        except Full:
            raise DatabaseBusy("too many requests wait for the database") from None
        except Late:
            raise DatabaseBusy("no connection to the database came free in time") from None
        return None if record is None else statement.row(*record[1:])

    async def one(self, statement: Statement[Row], /, **arguments: object) -> Row:
        """Run a grouped statement that always has a row for a call, and return it."""
        row = await self.one_or_none(statement, **arguments)
        if row is None:
            raise LookupError(statement.name)
        return row

    async def all(self, statement: Statement[Row], /, **arguments: object) -> list[Row]:
        """Run a statement and return its rows in order."""
        query = self._queries[statement.name]
        row = statement.row
        return [row(*record) for record in await self._fetch(query, query.values(arguments))]

    async def _fetch(self, query: Query, values: Sequence[object]) -> list[asyncpg.Record]:
        connection = await self._acquire()
        try:
            return await connection.fetch(query.sql, *values)
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
            raise DatabaseBusy("the statement was not done in time") from None
        except asyncio.TimeoutError:
            if query.shared:
                raise DatabaseBusy("the statement was not done in time") from None
            raise OutcomeUnknown("the change was not done in time; it may still have been made") from None
        except asyncpg.DataError as error:
            raise Invalid("the database cannot hold a value of this request") from error
        except LOST as error:
            with suppress(asyncpg.InterfaceError):  # the pool may have taken it back already
                connection.terminate()
            raise _unreachable(error) from error
        finally:
            # By now the statement has its outcome, which a fault on the way back to the pool does not change.
            with suppress(*LOST, asyncio.TimeoutError, asyncpg.PostgresError):
                await self.pool.release(connection)

    async def _acquire(self) -> "PoolConnectionProxy[asyncpg.Record]":
        try:
            return await self.pool.acquire(timeout=self._timeout)
        except asyncio.TimeoutError:
            raise DatabaseBusy("no connection to the database came free in time") from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _unreachable(error) from error


def _unreachable(error: Exception) -> DatabaseUnreachable:
    logger.error("No connection to the database: %s", error or type(error).__name__)
    return DatabaseUnreachable()


@asynccontextmanager
async def open_database(
    dsn: str, *, pool_size: int, pool_timeout: float, statement_timeout: float
) -> AsyncIterator[Database]:
    """Open a pool of `pool_size` connections, and close it in the end. Timeouts are in seconds.

    Raises:
        StartError: the server does not give so many connections.
    """
    pool = asyncpg.create_pool(
        dsn,
        min_size=pool_size,
        max_size=pool_size,
        timeout=pool_timeout,
        command_timeout=statement_timeout,
        server_settings={"application_name": "as-alerts-service"},
    )
    try:
        await pool
    except (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartError(f"no {pool_size} connections to the database: {error or 'no answer in time'}") from None
    async with pool:
        yield Database(pool, load_queries(), pool_timeout)


def sql_folder() -> Path:
    """Find `sql/`: inside the installed package, or beside it in a checkout.

    Raises:
        StartError: it is in neither place.
    """
    package = Path(__file__).parent
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise StartError(f"the SQL files are missing: no folder {package / 'sql'}")


def load_queries() -> dict[str, Query]:
    """Read every file below sql/queries, by its path without `.sql`."""
    root = sql_folder() / "queries"
    return {path.relative_to(root).with_suffix("").as_posix(): _read(path) for path in sorted(root.rglob("*.sql"))}


def _read(path: Path) -> Query:
    sql = path.read_text("utf-8")
    parameters = tuple(Parameter(int(line["number"]), line["name"], line["type"]) for line in PARAMETER.finditer(sql))
    return Query(path, sql, parameters)
