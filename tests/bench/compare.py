"""Compares the service with its peers in interleaved rounds, so that background load affects all servers alike."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from msgspec import Struct

from tests.bench import seed, wrk
from tests.bench.scenarios import EXPECTED_STATS, SCENARIOS, Scenario
from tests.bench.servers import PEERS, SERVICE, Server, running_server
from tests.bench.wrk import BenchError, RequestFile, WrkResult

WARM_UP_SECONDS = 1.0
MAX_REQUESTS_PER_SECOND = 12_000  # decides how many requests are prepared where each can be sent only once
VOLATILE_FIELDS = {"id", "created_at", "updated_at", "acknowledged_at", "resolved_at"}


class ComparePlan(NamedTuple):
    """What to measure; with `workers` above 1, also the service with that many processes."""

    scenarios: Sequence[str]
    connections: Sequence[int]
    rounds: int
    seconds: float
    workers: int


class Sample(Struct, frozen=True):
    """One measurement of one server. `cpu_us` and `database_cpu_us` are microseconds of CPU time per request."""

    scenario: str
    connections: int
    server: str
    round: int
    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    database_cpu_us: float
    resident_mb: float


def run(plan: ComparePlan, server_dsn: str, folder: Path) -> list[Sample]:
    """Start all servers, check that their responses are equal, then measure."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running_server(name, server_dsn, folder)) for name in (SERVICE, *PEERS)]
        if plan.workers > 1:
            name = f"{SERVICE} x{plan.workers}"
            servers.append(stack.enter_context(running_server(name, server_dsn, folder, workers=plan.workers)))
        for name in plan.scenarios:
            _check_responses(SCENARIOS[name], servers)
        return list(_measure_all(plan, servers, folder))


def _check_responses(scenario: Scenario, servers: Sequence[Server]) -> None:
    """Check that all servers respond equally to the first request of a scenario.

    Raises:
        BenchError: the responses differ, or have an unexpected status or statistics.
    """
    method, path, *body = scenario.lines(1)[0].split(" ", 2)
    contents: list[Any] = []
    for server in servers:
        asyncio.run(seed.load_alerts(server.dsn, reserved=int(scenario.once)))
        response = httpx.request(
            method, server.url + path, content="".join(body) or None, headers={"Content-Type": "application/json"}
        )
        content = json.loads(response.text.replace('+00:00"', 'Z"'))  # two notations of UTC
        if response.status_code != scenario.status or (scenario.name == "stats" and content != EXPECTED_STATS):
            raise BenchError(
                f"unexpected response of {server.name} to {scenario.name}: {response.status_code} {response.text[:500]}"
            )
        if scenario.changed_rows:
            content = {field: value for field, value in content.items() if field not in VOLATILE_FIELDS}
        contents.append(content)
    if any(content != contents[0] for content in contents):
        raise BenchError(
            f"the responses to {scenario.name} differ: " + "\n".join(str(content)[:500] for content in contents)
        )


def _measure_all(plan: ComparePlan, servers: Sequence[Server], folder: Path) -> Iterator[Sample]:
    """Measure every server in each round; round 0 is the warm-up and yields no sample."""
    for connections in plan.connections:
        for scenario in (SCENARIOS[name] for name in plan.scenarios):
            for round_number in range(plan.rounds + 1):
                seconds = plan.seconds if round_number else WARM_UP_SECONDS
                for server in servers:
                    needed = int(MAX_REQUESTS_PER_SECOND * (seconds + 1)) if scenario.once else 0
                    if scenario.changed_rows or round_number == 0:
                        asyncio.run(seed.load_alerts(server.dsn, reserved=needed))
                    requests = RequestFile.write(folder / "requests", scenario.lines(needed), once=scenario.once)
                    sample = _measure(scenario, server, round_number, requests, seconds, connections)
                    sys.stderr.write(f"{scenario.name} x{connections} {server.name}: {sample.per_second:.0f}/s\n")
                    if round_number:
                        yield sample


def _measure(
    scenario: Scenario, server: Server, round_number: int, requests: RequestFile, seconds: float, connections: int
) -> Sample:
    condition = scenario.changed_rows
    rows_before = asyncio.run(seed.count_alerts(server.dsn, condition)) if condition else 0
    times_before = server.cpu_times()
    result = wrk.send(server.url, requests, seconds=seconds, connections=connections)
    cpu, database_cpu = server.cpu_times().since(times_before)
    if condition:
        _check_changed_rows(server, result, asyncio.run(seed.count_alerts(server.dsn, condition)) - rows_before)
    return Sample(
        scenario=scenario.name,
        connections=connections,
        server=server.name,
        round=round_number,
        requests=result.requests,
        per_second=result.requests / result.seconds,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        cpu_us=cpu / result.requests * 1e6,
        database_cpu_us=database_cpu / result.requests * 1e6,
        resident_mb=server.resident_megabytes(),
    )


def _check_changed_rows(server: Server, result: WrkResult, changed: int) -> None:
    """Check that each response changed a row; requests in progress at the end may have changed one too.

    Raises:
        BenchError: another number of rows has changed, or there were too few requests.
    """
    if result.exhausted:
        raise BenchError(f"{server.name} processed all {result.sent} requests before the end of the measurement")
    if not result.requests <= changed <= result.sent:
        raise BenchError(
            f"{server.name} answered {result.requests} of {result.sent} requests but changed {changed} rows"
        )
