"""Compares single creates, bulk lists and an NDJSON stream, with the service alone."""

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

from tests.bench import scenarios, seed, wrk
from tests.bench.report import describe_environment, format_number, format_range, markdown_table
from tests.bench.servers import SERVICE, Server, running_server
from tests.bench.wrk import BenchError, RequestFile

LIST_LENGTH = 1_000
CURL_TIMEOUT_SECONDS = 600
METHODS = {
    "single_64": "single creates, 64 connections",
    "single_1": "single creates, one connection",
    "list": f"bulk lists of {LIST_LENGTH:,}, one at a time",
    "stream": "NDJSON stream, sent by curl",
}


class BulkPlan(NamedTuple):
    """What to measure: the lines of the stream, and the seconds of all other measurements."""

    rows: int
    rounds: int
    seconds: float


class BulkSample(Struct, frozen=True):
    """One measurement of one method. `cpu_us` and `database_cpu_us` are microseconds of CPU time per alert."""

    method: str
    round: int
    per_second: float
    cpu_us: float
    database_cpu_us: float
    resident_mb: float


def run(plan: BulkPlan, server_dsn: str, folder: Path) -> list[BulkSample]:
    bodies = [line.split(" ", 2)[2] for line in scenarios.create_requests()]
    items = [json.loads(bodies[number % len(bodies)]) for number in range(LIST_LENGTH)]
    single = RequestFile.write(folder / "single", scenarios.create_requests())
    lists = RequestFile.write(folder / "lists", [f"POST /alerts/bulk {json.dumps({'alerts': items})}"])
    ndjson = folder / "ndjson"
    ndjson.write_text("".join(bodies[number % len(bodies)] + "\n" for number in range(plan.rows)))
    with running_server(SERVICE, server_dsn, folder) as server:
        senders: dict[str, Callable[[], float]] = {
            "single_64": lambda: wrk.send(server.url, single, seconds=plan.seconds, connections=64).seconds,
            "single_1": lambda: wrk.send(server.url, single, seconds=plan.seconds, connections=1).seconds,
            "list": lambda: wrk.send(server.url, lists, seconds=plan.seconds, connections=1).seconds,
            "stream": lambda: _send_stream(server.url, ndjson, plan.rows),
        }
        return list(_measure_all(plan, server, senders))


def _measure_all(plan: BulkPlan, server: Server, senders: dict[str, Callable[[], float]]) -> Iterator[BulkSample]:
    """Measure every method in each round; round 0 is the warm-up and yields no sample."""
    for round_number in range(plan.rounds + 1):
        for method, send in senders.items():
            asyncio.run(seed.load_alerts(server.dsn))
            rows_before, times_before = asyncio.run(seed.count_alerts(server.dsn, "true")), server.cpu_times()
            seconds = send()
            cpu, database_cpu = server.cpu_times().since(times_before)
            created = asyncio.run(seed.count_alerts(server.dsn, "true")) - rows_before
            sys.stderr.write(f"{METHODS[method]}: {created / seconds:.0f} alerts/s\n")
            if round_number:
                yield BulkSample(
                    method=method,
                    round=round_number,
                    per_second=created / seconds,
                    cpu_us=cpu / created * 1e6,
                    database_cpu_us=database_cpu / created * 1e6,
                    resident_mb=server.resident_megabytes(),
                )


def _send_stream(url: str, ndjson: Path, rows: int) -> float:
    """Send a file with curl, and return the seconds until the end of the response.

    Raises:
        BenchError: curl is missing, or a line was rejected.
    """
    if (curl := shutil.which("curl")) is None:
        raise BenchError("curl is missing: install it with the system's package manager")
    results = ndjson.with_name("results")
    command = [curl, "-sS", "-o", str(results), "-H", "Content-Type: application/x-ndjson", "-H", "Expect:"]
    command += ["--data-binary", f"@{ndjson}", f"{url}/alerts/bulk"]
    started_at = time.perf_counter()
    subprocess.run(command, check=True, timeout=CURL_TIMEOUT_SECONDS)
    seconds = time.perf_counter() - started_at
    with results.open("rb") as lines:
        created = sum(json.loads(line)["status"] == 201 for line in lines)
    if created != rows:
        raise BenchError(f"{created} of {rows} lines were created")
    return seconds


def report(plan: BulkPlan, samples: Sequence[BulkSample], database_version: str) -> str:
    """Return the report: a table with one row per method."""
    head = ["method", "alerts/s", "stream ÷ this", "server CPU µs/alert", "PostgreSQL CPU µs/alert", "RSS MB"]
    stream_rates = [sample.per_second for sample in samples if sample.method == "stream"]
    rows = []
    for method, label in METHODS.items():
        of_method = [sample for sample in samples if sample.method == method]
        ratios = [stream / sample.per_second for stream, sample in zip(stream_rates, of_method, strict=True)]
        rows.append(
            [
                label,
                format_range([sample.per_second for sample in of_method], 0),
                "" if method == "stream" else format_range(ratios, 2),
                *(
                    format_number(statistics.median(getattr(sample, field) for sample in of_method), 0)
                    for field in ("cpu_us", "database_cpu_us", "resident_mb")
                ),
            ]
        )
    parts = [
        "# Bulk creates",
        describe_environment(database_version),
        f"Medians of {plan.rounds} interleaved rounds, with minimum and maximum in brackets.",
        f"Each measurement took {plan.seconds:g} s; the stream has {plan.rows:,} lines.",
        "Clients and PostgreSQL share the processors with the service.",
        markdown_table(head, rows),
    ]
    return "\n\n".join(parts) + "\n"
