"""How fast alerts are recorded one by one, by the thousand, and as a stream of lines: the service alone."""

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from tests.bench import load, scenarios, seed
from tests.bench.load import BenchError, Requests
from tests.bench.report import number, spread, surroundings, table
from tests.bench.servers import SERVICE, Server, running

LIST = 1_000
PATIENCE_SECONDS = 600
WAYS = {
    "64": "one by one over 64 connections",
    "1": "one by one over one",
    "list": f"lists of {LIST:,} over one",
    "stream": "a stream of lines over one",
}


class Plan(NamedTuple):
    """What to measure."""

    rows: int
    rounds: int
    seconds: float


class Turn(Struct, frozen=True):
    """What was recorded in one way. `cpu_us` and `database_cpu_us` are microseconds of a processor per alert."""

    way: str
    round: int
    per_second: float
    cpu_us: float
    database_cpu_us: float
    resident_mb: float


def run(plan: Plan, server_dsn: str, folder: Path) -> list[Turn]:
    bodies = [line.split(" ", 2)[2] for line in scenarios.create()]
    of_a_list = json.dumps({"alerts": [json.loads(bodies[n % len(bodies)]) for n in range(LIST)]})
    single = Requests.write(folder / "single", scenarios.create())
    lists = Requests.write(folder / "lists", [f"POST /alerts/bulk {of_a_list}"])
    lines = folder / "lines"
    lines.write_text("".join(bodies[n % len(bodies)] + "\n" for n in range(plan.rows)))
    with running(SERVICE, server_dsn, folder) as server:
        ways: dict[str, Callable[[], float]] = {
            "64": lambda: load.send(server.url, single, seconds=plan.seconds, connections=64).seconds,
            "1": lambda: load.send(server.url, single, seconds=plan.seconds, connections=1).seconds,
            "list": lambda: load.send(server.url, lists, seconds=plan.seconds, connections=1).seconds,
            "stream": lambda: _stream(server.url, lines, plan.rows),
        }
        return list(_measure_all(plan, server, ways))


def _measure_all(plan: Plan, server: Server, ways: dict[str, Callable[[], float]]) -> Iterator[Turn]:
    """Round 0 warms up."""
    for number_ in range(plan.rounds + 1):
        for way, send in ways.items():
            asyncio.run(seed.lay(server.dsn))
            before, used = asyncio.run(seed.count(server.dsn, "true")), server.used()
            seconds = send()
            cpu, database_cpu = server.used().since(used)
            recorded = asyncio.run(seed.count(server.dsn, "true")) - before
            sys.stderr.write(f"{WAYS[way]}: {recorded / seconds:.0f} alerts/s\n")
            if number_:
                yield Turn(
                    way=way,
                    round=number_,
                    per_second=recorded / seconds,
                    cpu_us=cpu / recorded * 1e6,
                    database_cpu_us=database_cpu / recorded * 1e6,
                    resident_mb=server.resident_megabytes(),
                )


def _stream(url: str, lines: Path, rows: int) -> float:
    """Send a file as curl does, and return the seconds until the last answer.

    Raises:
        BenchError: curl is missing or failed, or a line was not recorded.
    """
    if (curl := shutil.which("curl")) is None:
        raise BenchError("curl is missing: install it with the system's package manager")
    answers = lines.with_name("answers")
    command = [curl, "-sS", "-o", str(answers), "-H", "Content-Type: application/x-ndjson", "-H", "Expect:"]
    began = time.perf_counter()
    subprocess.run([*command, "--data-binary", f"@{lines}", f"{url}/alerts/bulk"], check=True, timeout=PATIENCE_SECONDS)
    took = time.perf_counter() - began
    with answers.open("rb") as results:
        recorded = sum(json.loads(line)["status"] == 201 for line in results)
    if recorded != rows:
        raise BenchError(f"{recorded} of {rows} lines were recorded")
    return took


def report(plan: Plan, turns: Sequence[Turn], database: str) -> str:
    """One row for each way."""
    head = ["how", "alerts/s", "stream ÷ this", "server CPU µs/alert", "PostgreSQL CPU µs/alert", "RSS MB"]
    stream = [turn.per_second for turn in turns if turn.way == "stream"]
    rows = []
    for way, label in WAYS.items():
        mine = [turn for turn in turns if turn.way == way]
        ratios = [ours / turn.per_second for ours, turn in zip(stream, mine, strict=True)]
        rows.append(
            [
                label,
                spread([turn.per_second for turn in mine], 0),
                "" if way == "stream" else spread(ratios, 2),
                *(
                    number(statistics.median(getattr(turn, field) for turn in mine), 0)
                    for field in ("cpu_us", "database_cpu_us", "resident_mb")
                ),
            ]
        )
    parts = [
        "# Alerts one by one, by the thousand, and as a stream",
        surroundings(database),
        f"Medians of {plan.rounds} interleaved rounds, the lowest and the highest in brackets.",
        f"Each took {plan.seconds:g} s; the stream had {plan.rows:,} lines and was sent by curl.",
        "Clients and PostgreSQL share the processors with the service.",
        table(head, rows),
    ]
    return "\n\n".join(parts) + "\n"
