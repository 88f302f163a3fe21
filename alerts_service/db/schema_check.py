"""Holds every SQL file against the live schema, our rights in it, and the Struct that its rows become.

This is what makes `Alert(*record)` safe: a column that moved, a type that changed or a file that nobody runs stops
the start instead of turning up in an answer.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
from msgspec import inspect, structs

from alerts_service.db.database import Statement
from alerts_service.db.pool import CONNECTION_ERRORS, Connection
from alerts_service.db.queries import Query
from alerts_service.errors import StartupError

COLUMN_TYPES: dict[str, type[inspect.Type]] = {
    "bool": inspect.BoolType,
    "bytea": inspect.BytesType,
    "float4": inspect.FloatType,
    "float8": inspect.FloatType,
    "int2": inspect.IntType,
    "int4": inspect.IntType,
    "int8": inspect.IntType,
    "text": inspect.StrType,
    "timestamptz": inspect.DateTimeType,
    "uuid": inspect.UUIDType,
    "varchar": inspect.StrType,
}


async def verify(connection: Connection, queries: Mapping[str, Query], unused: Collection[str] = ()) -> int:
    """Prepare every query and compare it with its header and its Struct; return how many there are.

    Those that are `unused` need no rights.

    Raises:
        StartupError: with every difference that was found.
    """
    found = [problem async for problem in _problems(connection, queries, unused)]
    if found:
        raise StartupError("the SQL files do not fit the database: " + "; ".join(found))
    return len(queries)


async def _problems(
    connection: Connection, queries: Mapping[str, Query], unused: Collection[str]
) -> AsyncIterator[str]:
    for name in Statement.declared.keys() ^ queries.keys():
        yield f"{name}: " + ("no such file" if name in Statement.declared else "no statement runs this file")
    for name in Statement.declared.keys() & queries.keys():
        try:
            prepared = await connection.prepare(
                queries[name].sql, name=""
            )  # a name would stay behind in a pooler's session
            if name not in unused:
                await prepared.explain(*[None] * len(prepared.get_parameters()))  # which asks for the rights to run it
        except CONNECTION_ERRORS:
            raise
        except asyncpg.PostgresError as error:
            yield f"{name}: {error}"
            continue
        columns = prepared.get_attributes()
        if (first := columns[0].name) != "batch_index":
            yield f"{name}: it answers many calls at once, so its first column must be batch_index, not {first}"
            continue
        rows = _columns(columns[1:], Statement.declared[name])
        for problem in (*_parameters(prepared, queries[name]), *rows):
            yield f"{name}: {problem}"


def _parameters(prepared: Any, query: Query) -> Iterator[str]:
    documented = [(parameter.number, parameter.type) for parameter in query.parameters]
    real = [(number, type_.name) for number, type_ in enumerate(prepared.get_parameters(), 1)]
    if documented != real:
        yield f"the header documents the parameters {documented}, PostgreSQL sees {real}"
    for number, type_ in real:
        if not type_.endswith("[]"):
            yield f"it answers many calls at once, so ${number} must be an array, not {type_}"


def _columns(columns: Sequence[asyncpg.Attribute], statement: Statement[Any]) -> Iterator[str]:
    fields = structs.fields(statement.row)
    names, wanted = [column.name for column in columns], [field.name for field in fields]
    if names != wanted:
        yield f"returns the columns {names}, {statement.row.__name__} wants {wanted}"
        return
    for column, field in zip(columns, fields, strict=True):
        if not isinstance(_plain(inspect.type_info(field.type)), COLUMN_TYPES.get(column.type.name, type(None))):
            yield f"the column {column.name} is {column.type.name}, not what {statement.row.__name__} holds"


def _plain(type_: inspect.Type) -> inspect.Type:
    """Look through `X | None` and a description, and see a Literal of texts as text."""
    if isinstance(type_, inspect.Metadata):
        return _plain(type_.type)
    if isinstance(type_, inspect.UnionType):
        return next(_plain(member) for member in type_.types if not isinstance(member, inspect.NoneType))
    return inspect.StrType() if isinstance(type_, inspect.LiteralType) else type_
