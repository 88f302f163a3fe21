"""Measures every server in turn, round after round, so that a noisy minute meets them all."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from msgspec import Struct

from tests.bench import load, seed
from tests.bench.load import BenchError, Load, Requests
from tests.bench.scenarios import SCENARIOS, STATS, Scenario
from tests.bench.servers import PEERS, SERVICE, Server, running

WARM_UP_SECONDS = 1.0
FASTEST = 12_000  # requests a second that a server is thought to answer before it was measured
ONE_A_RUN = {"id", "created_at", "updated_at", "acknowledged_at", "resolved_at"}


class Plan(NamedTuple):
    """What to measure; `workers` above 1 adds the service with that many processes."""

    scenarios: Sequence[str]
    connections: Sequence[int]
    rounds: int
    seconds: float
    workers: int


class Sample(Struct, frozen=True):
    """One server's turn. `cpu_us` and `database_cpu_us` are microseconds of a processor per request."""

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


def run(plan: Plan, server_dsn: str, folder: Path) -> list[Sample]:
    """Start everybody, hold their answers against each other, then measure."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(name, server_dsn, folder)) for name in (SERVICE, *PEERS)]
        if plan.workers > 1:
            name = f"{SERVICE} x{plan.workers}"
            servers.append(stack.enter_context(running(name, server_dsn, folder, workers=plan.workers)))
        for name in plan.scenarios:
            _compare_answers(SCENARIOS[name], servers)
        return list(_measure_all(plan, servers, folder))


def _compare_answers(scenario: Scenario, servers: Sequence[Server]) -> None:
    """The first request of a scenario must be answered alike by all."""
    method, path, *body = scenario.lines(1)[0].split(" ", 2)
    answers: list[Any] = []
    for server in servers:
        asyncio.run(seed.lay(server.dsn, fresh=int(scenario.once)))
        response = httpx.request(
            method, server.url + path, content="".join(body) or None, headers={"Content-Type": "application/json"}
        )
        answer = json.loads(response.text.replace('+00:00"', 'Z"'))  # two spellings of one offset
        if response.status_code != scenario.status or (scenario.name == "stats" and answer != STATS):
            raise BenchError(f"{server.name} answers {scenario.name} with {response.status_code} {response.text[:500]}")
        answers.append({k: v for k, v in answer.items() if k not in ONE_A_RUN} if scenario.changed else answer)
    if any(answer != answers[0] for answer in answers):
        raise BenchError(f"not everybody answers {scenario.name} alike: " + "\n".join(str(a)[:500] for a in answers))


def _measure_all(plan: Plan, servers: Sequence[Server], folder: Path) -> Iterator[Sample]:
    """Round 0 warms up, and shows how many requests can be needed."""
    rates = dict.fromkeys((server.name for server in servers), float(FASTEST))
    for connections in plan.connections:
        for scenario in (SCENARIOS[name] for name in plan.scenarios):
            for number in range(plan.rounds + 1):
                seconds = plan.seconds if number else WARM_UP_SECONDS
                for server in servers:
                    if scenario.changed or number == 0:
                        needed = int(rates[server.name] * (seconds + 1)) if scenario.once else 0
                        asyncio.run(seed.lay(server.dsn, fresh=needed))
                        requests = Requests.write(folder / "requests", scenario.lines(needed), once=scenario.once)
                    else:
                        requests = Requests.write(folder / "requests", scenario.lines(0))
                    sample = _measure(scenario, server, number, requests, seconds, connections)
                    sys.stderr.write(f"{scenario.name} x{connections} {server.name}: {sample.per_second:.0f}/s\n")
                    if number:
                        yield sample


def _measure(
    scenario: Scenario, server: Server, number: int, requests: Requests, seconds: float, connections: int
) -> Sample:
    before = asyncio.run(seed.count(server.dsn, scenario.changed)) if scenario.changed else 0
    used = server.used()
    done = load.send(server.url, requests, seconds=seconds, connections=connections)
    cpu, database_cpu = server.used().since(used)
    if scenario.changed:
        _check_changes(server, done, asyncio.run(seed.count(server.dsn, scenario.changed)) - before)
    return Sample(
        scenario=scenario.name,
        connections=connections,
        server=server.name,
        round=number,
        requests=done.requests,
        per_second=done.requests / done.seconds,
        p50_ms=done.p50_ms,
        p99_ms=done.p99_ms,
        cpu_us=cpu / done.requests * 1e6,
        database_cpu_us=database_cpu / done.requests * 1e6,
        resident_mb=server.resident_megabytes(),
    )


def _check_changes(server: Server, done: Load, changed: int) -> None:
    """Every answered request changed a row; those still under way at the end may have."""
    if done.exhausted:
        raise BenchError(f"{server.name} was faster than {done.sent} requests could last")
    if not done.requests <= changed <= done.sent:
        raise BenchError(f"{server.name} answered {done.requests} of {done.sent} requests but changed {changed} rows")
