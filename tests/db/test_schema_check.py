"""The start refuses SQL files that do not fit the schema or their Structs."""

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
    """Let a test declare a statement of its own, and nothing else."""
    with mock.patch.dict(STATEMENTS, clear=True):
        Statement("pair", Pair)
        yield


def query(sql: str, *parameters: Parameter) -> dict[str, Query]:
    return {"pair": Query(Path("pair.sql"), sql, parameters)}


async def test_the_shipped_files_fit(connection: Connection) -> None:
    """Every shipped SQL file fits the schema that the migrations make, and the Struct of its statement."""
    assert await schema_check.verify(connection, load_queries()) == len(STATEMENTS)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            "ALTER COLUMN message TYPE bytea USING 'm'",
            "alerts/get.sql: column message: PostgreSQL returns bytea, Alert",
        ),
        ("DROP COLUMN resolution_note", 'alerts/list.sql: column "resolution_note" not found in data type alerts'),
    ],
)
async def test_a_start_on_a_changed_schema(
    connection: Connection, empty_database: str, change: str, complaint: str
) -> None:
    """A schema that somebody changed after it was brought up to date stops the start, which says what does not fit."""
    await connection.execute(f"ALTER TABLE alerts {change}")
    with pytest.raises(StartupError, match="SQL files do not match the database: ") as refused:
        async with ready_database(settings_for(database_url=empty_database)):
            pass
    assert complaint in str(refused.value)


@pytest.mark.usefixtures("declared")
async def test_a_fitting_file(connection: Connection) -> None:
    """A file whose header, columns and types agree with its Struct is accepted."""
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
async def test_a_file_that_does_not_fit(connection: Connection, sql: str, problem: str) -> None:
    """A file that does not fit is refused with its name and what is wrong."""
    with pytest.raises(StartupError, match=r"sql/queries/pair\.sql: ") as refused:
        await schema_check.verify(connection, query(sql))
    assert problem in str(refused.value)


@pytest.mark.usefixtures("declared")
async def test_a_role_that_may_not_run_a_file(connection: Connection) -> None:
    """A role that lacks the rights for a file cannot start the service, instead of failing at each request."""
    role = f"role_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role}; SET ROLE {role}")
    with pytest.raises(StartupError, match=r"sql/queries/pair\.sql: permission denied for table alerts"):
        await schema_check.verify(connection, query("SELECT 1 AS batch_index, id, status FROM alerts"))
    await connection.execute(f"RESET ROLE; DROP ROLE {role}")


@pytest.mark.usefixtures("declared")
async def test_a_file_answers_many_calls(connection: Connection) -> None:
    """A file is refused unless its first column says whose each row is, and its parameters are arrays."""
    ids = Parameter(1, "id", "uuid[]")
    sql = "FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, batch_index) JOIN alerts USING (id)"
    fitting = query(f"SELECT batch_index, id, status {sql}", ids)
    assert await schema_check.verify(connection, fitting) == 1
    with pytest.raises(StartupError, match="the first column is id, expected batch_index"):
        await schema_check.verify(connection, query(f"SELECT id, status {sql}", ids))
    single = query("SELECT 1 AS batch_index, id, status FROM alerts WHERE id = $1", Parameter(1, "id", "uuid"))
    with pytest.raises(StartupError, match=r"parameter \$1 is uuid, expected an array"):
        await schema_check.verify(connection, single)


@pytest.mark.usefixtures("declared")
async def test_a_missing_and_an_idle_file(connection: Connection) -> None:
    """A statement without a file, and a file that no statement runs, are both refused."""
    fitting = query("SELECT 1 AS batch_index, id, status FROM alerts")["pair"]
    with pytest.raises(StartupError, match=r"pair\.sql: the file is missing, but a statement") as refused:
        await schema_check.verify(connection, {"idle": replace(fitting)})
    assert "sql/queries/idle.sql: no statement is declared for this file" in str(refused.value)


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


class Fitting(TypedDict):
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
        (Fitting, None),
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


def asks_by_tenant(sql: str) -> bool:
    """Whether a statement compares the tenant in a condition or inserts it; to return it is not enough."""
    bare = re.sub("--.*", "", sql)
    conditions = re.findall(
        r"\b(?:WHERE|ON)\b(.*?)(?=\b(?:SELECT|FROM|RETURNING|GROUP|ORDER|LIMIT)\b|;)", bare, re.DOTALL
    )
    inserted = re.findall(r"\bINSERT INTO \w+ \((.*?)\)", bare, re.DOTALL)
    return any(re.search(r"\btenant_id = ", text) for text in conditions) or any(
        "tenant_id" in text for text in inserted
    )


def test_every_file_says_what_it_is_for() -> None:
    """Every SQL file opens with a sentence, and either filters or inserts by tenant or says why it does not."""
    for name, file in load_queries().items():
        header = [line for line in file.sql.splitlines() if line.startswith("-- ")]
        assert header, name
        assert header[0].rstrip(".").count(" ") > 2, name
        by_tenant = asks_by_tenant(file.sql) and any(parameter.name == "tenant_id" for parameter in file.parameters)
        assert by_tenant != ("No tenant: " in " ".join(header)), name
        assert "*" not in re.sub(r"count\(\*\)|~\*", "", file.sql), name
