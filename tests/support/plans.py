"""Rows and blocks that a prepared statement reads, from EXPLAIN (ANALYZE, BUFFERS)."""

import json
from collections.abc import Iterator
from typing import Any

from alerts_service.db.pool import Connection
from alerts_service.db.queries import load_queries

QUERIES = {name: query for name, query in load_queries().items() if query.parameters}


async def prepare_generic_plans(connection: Connection) -> None:
    """Prepare all statements. The session settings choose generic plans, which are made now and then kept."""
    for name, query in QUERIES.items():
        types = ", ".join(parameter.type for parameter in query.parameters)
        nulls = ", ".join(f"NULL::{parameter.type}" for parameter in query.parameters)
        await connection.execute(f'PREPARE "{name}" ({types}) AS {query.sql}')
        await connection.execute(f'EXPLAIN EXECUTE "{name}" ({nulls})')


async def explain(connection: Connection, name: str, *arguments: object) -> list[dict[str, Any]]:
    """Execute a prepared statement, roll it back, and return the scans of its plan.

    An argument that is no list is passed as an array of one element.
    """
    pairs = zip(arguments, QUERIES[name].parameters, strict=True)
    values = ", ".join(f"ARRAY[{', '.join(literals(argument))}]::{parameter.type}" for argument, parameter in pairs)
    transaction = connection.transaction()
    await transaction.start()
    explained = await connection.fetchval(
        f'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE "{name}" ({values})'
    )
    await transaction.rollback()
    (plan,) = json.loads(explained)
    return list(scans(plan["Plan"]))


async def rows_read(connection: Connection, name: str, *arguments: object) -> int:
    """Return how many rows of tables a prepared statement reads."""
    return rows(await explain(connection, name, *arguments))


def rows(nodes: list[dict[str, Any]]) -> int:
    """Return how many rows the scans read, also those that a filter removed."""
    return sum(int((node["Actual Rows"] + removed_rows(node)) * node["Actual Loops"]) for node in nodes)


def removed_rows(node: dict[str, Any]) -> int:
    return int(node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))


def blocks(nodes: list[dict[str, Any]]) -> int:
    """Return how many blocks the scans read. Unlike rows, blocks also show index entries that a scan skips."""
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in nodes)


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        yield node
    for inner in node.get("Plans", ()):
        yield from scans(inner)


def literals(argument: object) -> list[str]:
    values = argument if isinstance(argument, list) else [argument]
    return ["NULL" if value is None else f"'{value}'" for value in values]
