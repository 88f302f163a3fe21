"""Measures how the time of each operation grows with the table, with one connection.

One tenant holds a tenth of all alerts, and 1,000 small tenants share the rest.
"""

import asyncio
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec import Struct

from tests.bench import scenarios, seed, statement_times, wrk
from tests.bench.report import describe_environment, format_number, markdown_table
from tests.bench.seed import FIRST_RESERVED_ALERT, alert_id, tenant_id
from tests.bench.servers import SERVICE, Server, running_server
from tests.bench.wrk import BenchError, RequestFile

LARGE_TENANT = tenant_id(0)
PAGE_SIZE = 50
MAX_PAGE = 1_000
WRITES_PER_ROUND = 500  # creates, and acknowledgments: so few that the table hardly grows
OPERATIONS = {
    "get": "get one",
    "list": "list, first page",
    "deep_page": "list, deep page",
    "one_status": "list, one status",
    "two_statuses": "list, two statuses",
    "no_match": "list, no match",
    "rule": "list, one rule",
    "old_alerts": "list, one hour in the past",
    "word": "list, search for a word",
    "absent_word": "list, search for an absent word",
    "small_tenant": "list, small tenant",
    "stats": "stats",
    "alert_history": "history of an alert",
    "tenant_history": "history of the tenant",
    "create": "create",
    "acknowledge": "acknowledge",
}


class GrowthPlan(NamedTuple):
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


def run(plan: GrowthPlan, server_dsn: str, folder: Path) -> list[Point]:
    with running_server(SERVICE, server_dsn, folder) as server:
        asyncio.run(statement_times.create_extension(server.dsn))
        return [point for size in plan.sizes for point in _measure_size(plan, server, size, folder)]


def _measure_size(plan: GrowthPlan, server: Server, size: int, folder: Path) -> Iterator[Point]:
    _log_progress(f"inserting {size:,} alerts")
    reserved = WRITES_PER_ROUND * (plan.rounds + 1)
    asyncio.run(seed.load_alerts(server.dsn, size, seed.ONE_LARGE_TENANT, reserved=reserved, with_history=True))
    if (total := httpx.get(f"{server.url}/stats/{LARGE_TENANT}", timeout=30).json()["total"]) < size / 10:
        raise BenchError(f"the statistics count {total} alerts instead of {size // 10}")
    deep_page = f"GET {_middle_page(server, size // 10)}"
    for operation in OPERATIONS:
        results = []
        for round_number in range(plan.rounds + 1):  # round 0 is the warm-up
            requests = _write_requests(operation, size, round_number, deep_page, folder)
            try:
                result = _measure(server, requests, plan.seconds if round_number else 1)
                results += [result] if round_number else []
            except BenchError as error:
                _log_progress(f"{operation} at {size:,}: {error}")
        results = results or [(float("nan"),) * 3]
        point = Point(size, operation, *(statistics.median(values) for values in zip(*results, strict=True)))
        _log_progress(
            f"{operation} at {size:,}: {point.p50_ms:.2f} ms, of which {point.database_ms:.3f} ms in PostgreSQL"
        )
        yield point


def _write_requests(operation: str, size: int, round_number: int, deep_page: str, folder: Path) -> RequestFile:
    alerts = f"GET /alerts?tenant_id={LARGE_TENANT}"
    first_reserved = FIRST_RESERVED_ALERT + round_number * WRITES_PER_ROUND
    lines = {
        "create": scenarios.create_requests(1) * WRITES_PER_ROUND,
        "get": [f"GET /alerts/{alert_id(number * 7919 % size)}" for number in range(10_000)],
        "list": [alerts],
        "deep_page": [deep_page],
        "one_status": [f"{alerts}&status=triggered"],
        "two_statuses": [f"{alerts}&status=triggered,acknowledged"],
        "no_match": [f"{alerts}&status=triggered&severity=critical"],
        "rule": [f"{alerts}&rule_name=missed_call"],
        "old_alerts": [f"{alerts}&created_after=2020-01-01T00:00:00Z&created_before=2020-01-01T01:00:00Z"],
        "word": [f"{alerts}&q=missed"],
        "absent_word": [f"{alerts}&q=zebra"],
        "small_tenant": [f"GET /alerts?tenant_id={tenant_id(number)}" for number in range(1, 1001)],
        "stats": [f"GET /stats/{LARGE_TENANT}"],
        "alert_history": [f"GET /alerts/{alert_id(number * 7919 % size)}/history" for number in range(10_000)],
        "tenant_history": [f"GET /history?tenant_id={LARGE_TENANT}&since=2020-01-01T00:30:00Z"],
        "acknowledge": scenarios.transition_requests("acknowledge", WRITES_PER_ROUND, first_reserved),
    }[operation]
    return RequestFile.write(folder / "requests", lines, once=operation in {"create", "acknowledge"})


def _middle_page(server: Server, alerts: int) -> str:
    """Follow `Link` headers to the middle of a list of this length, at most MAX_PAGE pages, and return the URL."""
    path = f"/alerts?tenant_id={LARGE_TENANT}"
    with httpx.Client(base_url=server.url) as client:
        for _ in range(min(alerts // PAGE_SIZE // 2, MAX_PAGE)):
            path = client.get(path).raise_for_status().links["next"]["url"]
    return path


def _measure(server: Server, requests: RequestFile, seconds: float) -> tuple[float, float, float]:
    """Return the p50 and p99 over HTTP, and the mean time in PostgreSQL, in milliseconds."""
    before = asyncio.run(statement_times.total_ms(server.dsn))
    result = wrk.send(server.url, requests, seconds=seconds, connections=1)
    database_ms = asyncio.run(statement_times.total_ms(server.dsn)) - before
    return result.p50_ms, result.p99_ms, database_ms / result.sent


def _log_progress(text: str) -> None:
    sys.stderr.write(text + "\n")


def report(plan: GrowthPlan, points: Sequence[Point], database_version: str) -> str:
    """Return the report: one table per kind of time."""
    head = ["operation", *(f"{size:,}" for size in plan.sizes)]
    parts = [
        "# Time of each operation by the number of alerts",
        describe_environment(database_version),
        f"One connection; medians of {plan.rounds} rounds of {plan.seconds:g} s. Milliseconds.",
        "One tenant, the one measured, holds a tenth of all alerts; 1,000 small tenants share the rest.",
    ]
    times = {"In PostgreSQL (mean)": "database_ms", "Over HTTP, p50": "p50_ms", "Over HTTP, p99": "p99_ms"}
    for title, field in times.items():
        values = {(point.operation, point.size): getattr(point, field) for point in points}
        digits = 3 if field == "database_ms" else 2
        rows = [
            [label, *(format_number(values[operation, size], digits) for size in plan.sizes)]
            for operation, label in OPERATIONS.items()
        ]
        parts += [f"## {title}", markdown_table(head, rows)]
    return "\n\n".join(parts) + "\n"
