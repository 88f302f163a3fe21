"""No hot statement reads more than it answers with, however the tenants are skewed and whatever is believed of them."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from alerts_service.database import Connection, load_queries, session
from alerts_service.migrations import migrate
from tests.conftest import POOLER, fresh_database

pytestmark = pytest.mark.anyio

BIG, SMALL, NOBODY = UUID(int=0), UUID(int=1), UUID(int=10**6)
PAGE = 51
ALERTS = """
INSERT INTO alerts (tenant_id, rule_name, message, severity, created_at)
SELECT CASE n % 2 WHEN 0 THEN '{big}'::uuid ELSE lpad(to_hex(n % 100), 32, '0')::uuid END, 'r', 'm', '{severity}',
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second'
FROM generate_series({first}, {last}) AS n
"""
HOT = {name: query for name, query in load_queries().items() if query.parameters}
EARLY = "planned while there was nothing"
ALIKE = "planned while all was alike"


@pytest.fixture(scope="module", params=[EARLY, ALIKE])
async def connection(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A connection like the pool's, whose plans were made for something else than what it has to read."""
    async with fresh_database(server_url) as url:
        connection = await asyncpg.connect(url, server_settings=session(pooler=POOLER))
        await migrate(connection)
        await connection.execute("ALTER TABLE alerts SET (autovacuum_enabled = off)")
        if request.param == ALIKE:
            medium = ALERTS.format(big=BIG, severity="medium", first=1, last=20_000)
            await connection.execute(f"{medium}; ANALYZE alerts; ANALYZE alert_counts")
        for name, query in HOT.items():
            types = ", ".join(parameter.type for parameter in query.parameters)
            nothing = ", ".join(f"NULL::{parameter.type}" for parameter in query.parameters)
            await connection.execute(f'PREPARE "{name}" ({types}) AS {query.sql}')
            await connection.execute(f'EXPLAIN EXECUTE "{name}" ({nothing})')
        await connection.execute(ALERTS.format(big=BIG, severity="medium", first=20_001, last=40_000))
        await connection.execute(ALERTS.format(big=BIG, severity="critical", first=-10, last=0))
        yield connection
        await connection.close()


async def rows_read(connection: Connection, name: str, *arguments: object) -> int:
    """How many rows of tables a statement reads for arrays of these, by the one plan that was made for all values."""
    pairs = zip(arguments, HOT[name].parameters, strict=True)
    values = ", ".join(f"ARRAY[{', '.join(literals(argument))}]::{parameter.type}" for argument, parameter in pairs)
    transaction = connection.transaction()
    await transaction.start()
    explained = await connection.fetchval(f'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE "{name}" ({values})')
    await transaction.rollback()
    (plan,) = json.loads(explained)
    return sum(int((node["Actual Rows"] + removed(node)) * node["Actual Loops"]) for node in scans(plan["Plan"]))


def literals(argument: object) -> list[str]:
    values = argument if isinstance(argument, list) else [argument]
    return ["NULL" if value is None else f"'{value}'" for value in values]


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        yield node
    for inner in node.get("Plans", ()):
        yield from scans(inner)


def removed(node: dict[str, Any]) -> int:
    return int(node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("status", [None, "triggered", "resolved"])
@pytest.mark.parametrize("severity", [None, "medium", "critical", "low"])
@pytest.mark.parametrize("before", [None, "2026-01-01 05:00+00"])
async def test_a_list(
    connection: Connection, tenant: UUID, status: str | None, severity: str | None, before: str | None
) -> None:
    """A list reads no more than one page of each piece that its filter lets through, on any page."""
    pieces = (1 if status else 3) * (1 if severity else 4) if status or severity else 1
    read = await rows_read(connection, "alerts/list", tenant, status, severity, before, before and UUID(int=5))
    assert read <= PAGE * pieces


async def test_many_lists_at_once(connection: Connection) -> None:
    """Lists that leave together read one page each."""
    tenants, nothing = [BIG, SMALL, NOBODY] * 20, [None] * 60
    assert await rows_read(connection, "alerts/list", tenants, nothing, nothing, nothing, nothing) <= PAGE * 60


@pytest.mark.parametrize("tenant", [BIG, SMALL, NOBODY])
@pytest.mark.parametrize("status", [None, "triggered", "resolved"])
@pytest.mark.parametrize("severity", [None, "critical"])
@pytest.mark.parametrize(
    ("after", "before"), [(None, None), ("2026-01-01 05:00+00", None), (None, "2026-01-01 07:00+00")]
)
async def test_a_filter(
    connection: Connection,
    tenant: UUID,
    status: str | None,
    severity: str | None,
    after: str | None,
    before: str | None,
) -> None:
    """What a filter finds is read from the first of each piece that it lets through."""
    pieces = (1 if status else 2) * (1 if severity else 4)
    assert await rows_read(connection, "alerts/find", tenant, "resolved", status, severity, None, after, before) <= (
        1001 * pieces
    )


async def test_a_filter_by_rule(connection: Connection) -> None:
    """By the name of a rule no more is read than the tenant has of what can be moved."""
    own = await connection.fetchval("SELECT count(*) FROM alerts WHERE tenant_id = $1", SMALL)
    assert await rows_read(connection, "alerts/find", SMALL, "resolved", None, None, "x", None, None) <= own


@pytest.mark.parametrize("name", ["alerts/get", "alerts/acknowledge", "alerts/resolve"])
async def test_by_ids(connection: Connection, name: str) -> None:
    """A statement by ids reads the alerts of these ids and, where it counts, their tenants' counts."""
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM alerts WHERE tenant_id = $1 LIMIT 60", BIG)]
    nothing: list[object] = [None] * len(ids)
    change = [nothing, nothing, ["anonymous"] * len(ids), nothing]
    assert await rows_read(connection, name, ids, nothing, *(() if name == "alerts/get" else change)) <= 60


async def test_create(connection: Connection) -> None:
    """Recording an alert reads no other."""
    assert await rows_read(connection, "alerts/create", UUID(int=7), BIG, "r", "m", "low", "anonymous", None) == 0


async def test_stats(connection: Connection) -> None:
    """A tenant's counts are read from its lanes alone."""
    lanes = "INSERT INTO alert_counts (tenant_id, lane) SELECT $1, n FROM generate_series(-1, 15) AS n"
    await connection.execute(f"{lanes} ON CONFLICT DO NOTHING", BIG)
    assert await rows_read(connection, "stats/get", BIG) == 17
