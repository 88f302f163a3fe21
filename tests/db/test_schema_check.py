"""The check at start-up that compares SQL files with the schema, and their columns and parameters with Python types."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, TypedDict
from unittest import mock
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec import Struct
from msgspec.structs import replace

from alerts_service.bootstrap import ready_database
from alerts_service.db import schema_check
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection
from alerts_service.db.queries import Parameter, Query, load_queries
from alerts_service.db.statements import STATEMENTS, Statement
from alerts_service.errors import StartupError
from tests.support.database import settings_for

pytestmark = pytest.mark.anyio


class Pair(Struct):
    id: UUID
    status: str | None


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    yield connection
    await connection.close()


@pytest.fixture
def declared() -> Iterator[None]:
    """Replace the declared statements by the single statement `pair`."""
    with mock.patch.dict(STATEMENTS, clear=True):
        Statement("pair", Pair)
        yield


def query(sql: str, *parameters: Parameter) -> dict[str, Query]:
    """Return the queries of an SQL folder that contains only `pair.sql`."""
    return {"pair": Query(Path("pair.sql"), sql, parameters)}


async def test_the_shipped_sql_files_match_the_schema(connection: Connection) -> None:
    assert await schema_check.verify(connection, load_queries()) == len(STATEMENTS)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "ALTER COLUMN message TYPE bytea USING 'm'",
            "alerts/get.sql: column message: PostgreSQL returns bytea, Alert",
        ),
        ("DROP COLUMN resolution_note", 'alerts/list.sql: column "resolution_note" not found in data type alerts'),
    ],
)
async def test_a_schema_that_was_changed_by_hand_stops_the_start(
    connection: Connection, empty_database: str, change: str, problem: str
) -> None:
    await connection.execute(f"ALTER TABLE alerts {change}")
    with pytest.raises(StartupError, match="SQL files do not match the database: ") as error:
        async with ready_database(settings_for(database_url=empty_database)):
            pass
    assert problem in str(error.value)


@pytest.mark.usefixtures("declared")
async def test_a_file_that_matches_its_struct_is_accepted(connection: Connection) -> None:
    sql = "SELECT 1 AS batch_index, id, status FROM alerts WHERE id = ANY ($1)"
    assert await schema_check.verify(connection, query(sql, Parameter(1, "id", "uuid[]"))) == 1


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT 1 AS batch_index, id, state FROM alerts", 'column "state" does not exist'),
        (
            "SELECT 1 AS batch_index, status, id FROM alerts",
            "PostgreSQL returns the columns status, id; Pair expects id, status",
        ),
        ("SELECT 1 AS batch_index, id FROM alerts", "PostgreSQL returns the columns id; Pair expects id, status"),
        (
            "SELECT 1 AS batch_index, id, created_at AS status FROM alerts",
            "column status: PostgreSQL returns timestamptz, Pair expects text or varchar",
        ),
        (
            "SELECT 1 AS batch_index, id, to_json(status) AS status FROM alerts",
            "column status: PostgreSQL returns json, Pair expects text",
        ),
        (
            "SELECT 1 AS batch_index, id, status FROM alerts WHERE id = $1",
            "PostgreSQL has the parameters $1 uuid, the header of the file has (none)",
        ),
        ("SELECT 1 AS batch_index, id, status FROM alerts; SELECT 1", "cannot insert multiple commands"),
    ],
)
async def test_a_mismatch_is_reported_with_the_file_and_the_reason(
    connection: Connection, sql: str, problem: str
) -> None:
    with pytest.raises(StartupError, match=r"sql/queries/pair\.sql: ") as error:
        await schema_check.verify(connection, query(sql))
    assert problem in str(error.value)


@pytest.mark.usefixtures("declared")
async def test_a_role_without_the_rights_for_a_file_stops_the_start(connection: Connection) -> None:
    role = f"role_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role}; SET ROLE {role}")
    with pytest.raises(StartupError, match=r"sql/queries/pair\.sql: permission denied for table alerts"):
        await schema_check.verify(connection, query("SELECT 1 AS batch_index, id, status FROM alerts"))
    await connection.execute(f"RESET ROLE; DROP ROLE {role}")


@pytest.mark.usefixtures("declared")
async def test_a_file_must_return_batch_index_first_and_take_arrays(connection: Connection) -> None:
    ids = Parameter(1, "id", "uuid[]")
    sql = "FROM unnest($1::uuid[]) WITH ORDINALITY AS input (id, batch_index) JOIN alerts USING (id)"
    accepted = query(f"SELECT batch_index, id, status {sql}", ids)
    assert await schema_check.verify(connection, accepted) == 1
    with pytest.raises(StartupError, match="the first column is id, expected batch_index"):
        await schema_check.verify(connection, query(f"SELECT id, status {sql}", ids))
    single = query("SELECT 1 AS batch_index, id, status FROM alerts WHERE id = $1", Parameter(1, "id", "uuid"))
    with pytest.raises(StartupError, match=r"parameter \$1 is uuid, expected an array"):
        await schema_check.verify(connection, single)


@pytest.mark.usefixtures("declared")
async def test_a_missing_file_and_an_unused_file_are_both_reported(connection: Connection) -> None:
    accepted = query("SELECT 1 AS batch_index, id, status FROM alerts")["pair"]
    with pytest.raises(StartupError, match=r"pair\.sql: the file is missing, but a statement") as error:
        await schema_check.verify(connection, {"unused": replace(accepted)})
    assert "sql/queries/unused.sql: no statement is declared for this file" in str(error.value)


@pytest.mark.usefixtures("declared")
def test_a_second_declaration_of_a_statement_is_rejected() -> None:
    with pytest.raises(ValueError, match="the statement pair is already declared"):
        Statement("pair", Pair)


@pytest.mark.parametrize(
    ("sql", "read_only"),
    [
        ("-- An UPDATE would be a write.\nSELECT 1", True),
        ("SELECT updated_at FROM alerts", True),
        ("SELECT 1 FROM alerts FOR UPDATE", False),
        ("WITH deleted AS (delete FROM alerts) SELECT 1", False),
        ("SELECT pg_try_advisory_xact_lock(1)", False),
        ("SELECT pg_advisory_lock(1)", False),
    ],
)
def test_statements_that_change_data_or_lock_are_not_read_only(sql: str, read_only: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert Query(Path("pair.sql"), sql, ()).read_only is read_only


class Matching(TypedDict):
    note: str | None
    id: UUID


class Narrower(Struct):
    id: UUID
    note: Literal["a", "b"]


class OtherNames(TypedDict):
    id: UUID
    notes: str


class OtherType(TypedDict):
    id: UUID
    note: datetime


class NoneForId(TypedDict):
    id: UUID | None
    note: str


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (Matching, None),
        (Narrower, None),
        (OtherNames, "the header has the parameters id, note; OtherNames has id, notes"),
        (OtherType, "parameter note: the header has text, OtherType has timestamptz"),
        (NoneForId, "parameter id: the header does not allow null, NoneForId allows None"),
    ],
)
async def test_declared_parameters_are_compared_with_the_header(
    connection: Connection, parameters: type, problem: str | None
) -> None:
    del STATEMENTS["pair"]
    Statement("pair", Pair, parameters=parameters)
    header = (Parameter(1, "id", "uuid[]"), Parameter(2, "note", "text[]", nullable=True))
    sql = "SELECT 1 AS batch_index, id, status FROM alerts WHERE id = ANY ($1) AND message = ANY ($2)"
    if problem is None:
        assert await schema_check.verify(connection, query(sql, *header)) == 1
        return
    with pytest.raises(StartupError, match=r"sql/queries/pair\.sql: ") as error:
        await schema_check.verify(connection, query(sql, *header))
    assert problem in str(error.value)


def uses_tenant(sql: str) -> bool:
    """Return whether a statement compares the tenant in a condition or inserts it."""
    code = re.sub("--.*", "", sql)
    conditions = re.findall(
        r"\b(?:WHERE|ON)\b(.*?)(?=\b(?:SELECT|FROM|RETURNING|GROUP|ORDER|LIMIT)\b|;)", code, re.DOTALL
    )
    inserted = re.findall(r"\bINSERT INTO \w+ \((.*?)\)", code, re.DOTALL)
    return any(re.search(r"\btenant_id = ", text) for text in conditions) or any(
        "tenant_id" in text for text in inserted
    )


def test_every_sql_file_starts_with_a_sentence_and_uses_the_tenant_or_states_why_not() -> None:
    """No file selects `*`."""
    for name, file in load_queries().items():
        header = [line for line in file.sql.splitlines() if line.startswith("-- ")]
        assert header, name
        assert header[0].rstrip(".").count(" ") > 2, name
        by_tenant = uses_tenant(file.sql) and any(parameter.name == "tenant_id" for parameter in file.parameters)
        assert by_tenant != ("No tenant: " in " ".join(header)), name
        assert "*" not in re.sub(r"count\(\*\)|~\*", "", file.sql), name
