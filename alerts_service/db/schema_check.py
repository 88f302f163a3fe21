"""Compares every SQL file with the live schema, the privileges of the role, and the Structs of its statement.

`Statement.decode` assigns columns to the fields of a Struct by position. The check makes this safe: a moved column, a
changed type or a file without a statement is an error at startup instead of a wrong response.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement
from msgspec import inspect

from alerts_service.db.error_mapping import CONNECTION_ERRORS
from alerts_service.db.pool import Connection
from alerts_service.db.queries import Query
from alerts_service.db.statements import STATEMENTS, Statement
from alerts_service.errors import StartupError

PYTHON_TYPES: dict[str, type[inspect.Type]] = {
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
    """Prepare every query, compare it with its header and its statement, and return the number of queries.

    A statement is declared when the module of its feature is imported, so all features must be imported before the
    check. The role needs no privileges for the queries in `unused`.

    Raises:
        StartupError: a query does not match. The message lists all differences.
    """
    problems = [problem async for problem in _problems(connection, queries, unused)]
    if problems:
        raise StartupError("SQL files do not match the database: " + "; ".join(problems))
    return len(queries)


async def _problems(
    connection: Connection, queries: Mapping[str, Query], unused: Collection[str]
) -> AsyncIterator[str]:
    for name in sorted(STATEMENTS.keys() - queries.keys()):
        yield f"{_file(name)}: the file is missing, but a statement is declared for it"
    for name in sorted(queries.keys() - STATEMENTS.keys()):
        yield f"{_file(name)}: no statement is declared for this file"
    for name in sorted(STATEMENTS.keys() & queries.keys()):
        try:
            # With the empty name, no prepared statement remains in the session of a pooler.
            prepared = await connection.prepare(queries[name].sql, name="")
            if name not in unused:
                await prepared.explain(*[None] * len(prepared.get_parameters()))  # checks the privileges of the role
        except CONNECTION_ERRORS:  # before PostgresError, which includes some of them
            raise
        except asyncpg.PostgresError as error:
            yield f"{_file(name)}: {error}"
            continue
        for problem in _differences(prepared, queries[name], STATEMENTS[name]):
            yield f"{_file(name)}: {problem}"


def _file(name: str) -> str:
    return f"sql/queries/{name}.sql"


def _differences(prepared: "PreparedStatement[Any]", query: Query, statement: Statement[Any]) -> Iterator[str]:
    batch_index, *columns = prepared.get_attributes()
    if batch_index.name != "batch_index":
        yield f"the first column is {batch_index.name}, expected batch_index"
        return
    yield from _header_differences(prepared, query)
    if statement.parameters is not None:
        yield from _parameter_differences(query, statement.parameters)
    yield from _column_differences(columns, statement.row)


def _header_differences(prepared: "PreparedStatement[Any]", query: Query) -> Iterator[str]:
    header = [(parameter.number, parameter.type) for parameter in query.parameters]
    actual = [(number, type_.name) for number, type_ in enumerate(prepared.get_parameters(), 1)]
    if header != actual:
        yield f"PostgreSQL has the parameters {_numbered(actual)}, the header of the file has {_numbered(header)}"
    for number, type_ in actual:
        if not type_.endswith("[]"):
            yield f"parameter ${number} is {type_}, expected an array with one element for each call of the batch"


def _numbered(parameters: Sequence[tuple[int, str]]) -> str:
    return ", ".join(f"${number} {type_}" for number, type_ in parameters) or "(none)"


def _parameter_differences(query: Query, declared: type) -> Iterator[str]:
    """Compare the header of a file with the TypedDict or Struct of the parameters of one call."""
    fields = {field.name: field for field in _fields(declared)}
    names = [parameter.name for parameter in query.parameters]
    if set(names) != fields.keys():
        yield f"the header has the parameters {', '.join(names)}; {declared.__name__} has {', '.join(fields)}"
        return
    for parameter in query.parameters:
        type_ = fields[parameter.name].type
        pg_type = parameter.type.removesuffix("[]")
        if not _accepts(type_, pg_type):
            actual = _pg_types(type_)
            yield f"parameter {parameter.name}: the header has {pg_type}, {declared.__name__} has {actual}"
        if _is_nullable(type_) and not parameter.nullable:
            yield f"parameter {parameter.name}: the header does not allow null, {declared.__name__} allows None"


def _column_differences(columns: Sequence[asyncpg.Attribute], row: type) -> Iterator[str]:
    fields = _fields(row)
    columns_found, columns_expected = [column.name for column in columns], [field.name for field in fields]
    if columns_found != columns_expected:
        found, expected = ", ".join(columns_found), ", ".join(columns_expected)
        yield f"PostgreSQL returns the columns {found}; {row.__name__} expects {expected}"
        return
    for column, field in zip(columns, fields, strict=True):
        if not _accepts(field.type, column.type.name):
            expected = _pg_types(field.type)
            yield f"column {column.name}: PostgreSQL returns {column.type.name}, {row.__name__} expects {expected}"


def _fields(declared: type) -> tuple[inspect.Field, ...]:
    type_ = inspect.type_info(declared)
    if not isinstance(type_, (inspect.StructType, inspect.TypedDictType)):
        raise TypeError(f"{declared.__name__} is neither a Struct nor a TypedDict")
    return type_.fields


def _accepts(type_: inspect.Type, pg_type: str) -> bool:
    return isinstance(_plain(type_), PYTHON_TYPES.get(pg_type, type(None)))


def _pg_types(type_: inspect.Type) -> str:
    """Name the PostgreSQL types that a field accepts."""
    plain = _plain(type_)
    return " or ".join(name for name in PYTHON_TYPES if _accepts(plain, name)) or type(plain).__name__


def _is_nullable(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.Metadata):
        return _is_nullable(type_.type)
    return isinstance(type_, inspect.UnionType) and type_.includes_none


def _plain(type_: inspect.Type) -> inspect.Type:
    """Return a type without metadata and `None`. A Literal of texts becomes the type of text."""
    if isinstance(type_, inspect.Metadata):
        return _plain(type_.type)
    if isinstance(type_, inspect.UnionType):
        return next(_plain(member) for member in type_.types if not isinstance(member, inspect.NoneType))
    return inspect.StrType() if isinstance(type_, inspect.LiteralType) else type_
