"""How the time of each operation grows with the table: one connection, a tenant that holds a tenth of all alerts."""

import asyncio
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec import Struct

from tests.bench import load, scenarios, seed, statements
from tests.bench.load import BenchError, Requests
from tests.bench.report import number, surroundings, table
from tests.bench.seed import FRESH, alert, tenant
from tests.bench.servers import SERVICE, Server, running

BIG = tenant(0)
DEEPEST_PAGE = 1_000
WRITES = 500  # of each kind a round, so that they hardly change the size of the table
OPERATIONS = {
    "get": "get one",
    "list": "list, first page",
    "deep": "list, deep page",
    "status": "list, one status",
    "several": "list, two statuses",
    "nothing": "list, no match",
    "rule": "list, one rule",
    "time": "list, a time long ago",
    "words": "list, a word",
    "unheard": "list, a word that is nowhere",
    "small": "list, small tenant",
    "stats": "stats",
    "past": "history of one",
    "log": "history of all",
    "create": "create",
    "acknowledge": "acknowledge",
}


class Plan(NamedTuple):
    """What to measure."""

    sizes: Sequence[int]
    rounds: int
    seconds: float


class Point(Struct, frozen=True):
    """Medians of one operation at one size, in milliseconds. `database_ms` is NaN without pg_stat_statements."""

    size: int
    operation: str
    p50_ms: float
    p99_ms: float
    database_ms: float


def run(plan: Plan, server_dsn: str, folder: Path) -> list[Point]:
    with running(SERVICE, server_dsn, folder) as server:
        asyncio.run(statements.watch(server.dsn))
        return [point for size in plan.sizes for point in _measure_size(plan, server, size, folder)]


def _measure_size(plan: Plan, server: Server, size: int, folder: Path) -> Iterator[Point]:
    _say(f"laying {size:,} alerts")
    asyncio.run(seed.lay(server.dsn, size, seed.A_TENTH, fresh=WRITES * (plan.rounds + 1), told=True))
    if (total := httpx.get(f"{server.url}/stats/{BIG}", timeout=30).json()["total"]) < size / 10:
        raise BenchError(f"the stats count {total} alerts of {size // 10}")
    deep = f"GET {_deep_page(server, size // 10 // 50 // 2)}"
    for operation in OPERATIONS:
        turns = []
        for turn in range(plan.rounds + 1):
            requests = _requests(operation, size, turn, deep, folder)
            try:
                measured = _measure(server, requests, plan.seconds if turn else 1)
                turns += [measured] if turn else []
            except BenchError as error:
                _say(f"{operation} at {size:,}: {error}")
        turns = turns or [(float("nan"),) * 3]
        point = Point(size, operation, *(statistics.median(values) for values in zip(*turns, strict=True)))
        _say(f"{operation} at {size:,}: {point.p50_ms:.2f} ms, of them {point.database_ms:.3f} ms in PostgreSQL")
        yield point


def _requests(operation: str, size: int, turn: int, deep: str, folder: Path) -> Requests:
    lines = {
        "create": scenarios.create(1) * WRITES,
        "get": [f"GET /alerts/{alert(n * 7919 % size)}" for n in range(10_000)],
        "list": [f"GET /alerts?tenant_id={BIG}"],
        "deep": [deep],
        "status": [f"GET /alerts?tenant_id={BIG}&status=triggered"],
        "several": [f"GET /alerts?tenant_id={BIG}&status=triggered,acknowledged"],
        "nothing": [f"GET /alerts?tenant_id={BIG}&status=triggered&severity=critical"],
        "rule": [f"GET /alerts?tenant_id={BIG}&rule_name=missed_call"],
        "time": [f"GET /alerts?tenant_id={BIG}&created_after=2020-01-01T00:00:00Z&created_before=2020-01-01T01:00:00Z"],
        "words": [f"GET /alerts?tenant_id={BIG}&q=missed"],
        "unheard": [f"GET /alerts?tenant_id={BIG}&q=zebra"],
        "small": [f"GET /alerts?tenant_id={tenant(t)}" for t in range(1, 1001)],
        "stats": [f"GET /stats/{BIG}"],
        "past": [f"GET /alerts/{alert(n * 7919 % size)}/history" for n in range(10_000)],
        "log": [f"GET /history?tenant_id={BIG}&since=2020-01-01T00:30:00Z"],
        "acknowledge": scenarios.move("acknowledge", WRITES, first=FRESH + turn * WRITES),
    }[operation]
    return Requests.write(folder / "requests", lines, once=operation in {"create", "acknowledge"})


def _deep_page(server: Server, depth: int) -> str:
    """Follow the `Link` headers, as a client does, to the middle of the list, or a thousand pages deep."""
    path = f"/alerts?tenant_id={BIG}"
    with httpx.Client(base_url=server.url) as client:
        for _ in range(min(depth, DEEPEST_PAGE)):
            path = client.get(path).raise_for_status().links["next"]["url"]
    return path


def _measure(server: Server, requests: Requests, seconds: float) -> tuple[float, float, float]:
    before = asyncio.run(statements.spent_ms(server.dsn))
    done = load.send(server.url, requests, seconds=seconds, connections=1)
    spent = asyncio.run(statements.spent_ms(server.dsn)) - before
    return done.p50_ms, done.p99_ms, spent / done.sent


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def report(plan: Plan, points: Sequence[Point], database: str) -> str:
    """One table for each kind of time."""
    head = ["operation", *(f"{size:,}" for size in plan.sizes)]
    parts = [
        "# How the time of an operation grows with the number of alerts",
        surroundings(database),
        f"One connection; medians of {plan.rounds} rounds of {plan.seconds:g} s. Milliseconds.",
        "One tenant holds a tenth of all alerts and is the one asked for; a thousand small ones share the rest.",
    ]
    times = {"In PostgreSQL (mean)": "database_ms", "Over HTTP, p50": "p50_ms", "Over HTTP, p99": "p99_ms"}
    for title, field in times.items():
        values = {(point.operation, point.size): getattr(point, field) for point in points}
        rows = [
            [label, *(number(values[name, size], 3 if field == "database_ms" else 2) for size in plan.sizes)]
            for name, label in OPERATIONS.items()
        ]
        parts += [f"## {title}", table(head, rows)]
    return "\n\n".join(parts) + "\n"
