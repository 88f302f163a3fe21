"""Tables of samples as Markdown."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from tests.bench.compare import Plan, Sample
from tests.bench.servers import SERVICE

PACKAGES = ("litestar", "fastapi", "pydantic", "msgspec", "asyncpg", "uvicorn", "uvloop", "httptools")
CONDITIONS = """The service writes its access log, to a file; its peers write none. Clients and PostgreSQL share the
processors with the servers: wrk, with one thread, sends as fast as it is answered, and corrects its percentiles for
coordinated omission."""
HEAD = (
    "scenario",
    "server",
    "requests/s",
    "service ÷ this",
    "p50 ms",
    "p99 ms",
    "server CPU µs/request",
    "PostgreSQL CPU µs/request",
    "RSS MB",
)


def surroundings(database: str) -> str:
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, PostgreSQL {database}, "
        f"{os.cpu_count()} processors ({platform.machine()}), load average in the end {load}; {packages}."
    )


def comparison(plan: Plan, samples: Sequence[Sample], database: str) -> str:
    """One table for each number of connections."""
    parts = [
        "# The service beside its peers",
        surroundings(database),
        f"Medians of {plan.rounds} interleaved rounds of {plan.seconds:g} s, the lowest and the highest in brackets.",
        "Ratios are taken round by round; above 1 the service is the faster one.",
        CONDITIONS,
    ]
    for connections in plan.connections:
        some = [sample for sample in samples if sample.connections == connections]
        rows = [_row(some, scenario, server) for scenario in plan.scenarios for server in _servers(some)]
        parts += [f"## {connections} connection{'s' if connections > 1 else ''}", table(HEAD, rows, words=2)]
    return "\n\n".join(parts) + "\n"


def _servers(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.server for sample in samples))


def _row(samples: Sequence[Sample], scenario: str, server: str) -> list[str]:
    service, turns = (
        [sample for sample in samples if (sample.scenario, sample.server) == (scenario, name)]
        for name in (SERVICE, server)
    )
    ratios = [ours.per_second / theirs.per_second for ours, theirs in zip(service, turns, strict=True)]

    def median(value: Callable[[Sample], float], digits: int) -> str:
        return number(statistics.median(map(value, turns)), digits)

    return [
        scenario,
        server,
        spread([turn.per_second for turn in turns], 0),
        "" if server == SERVICE else spread(ratios, 2),
        median(lambda turn: turn.p50_ms, 2),
        median(lambda turn: turn.p99_ms, 2),
        median(lambda turn: turn.cpu_us, 0),
        median(lambda turn: turn.database_cpu_us, 0),
        median(lambda turn: turn.resident_mb, 0),
    ]


def median_of(samples: Iterable[Sample], scenario: str, server: str, connections: int, field: str) -> float:
    wanted = (scenario, server, connections)
    turns = [turn for turn in samples if (turn.scenario, turn.server, turn.connections) == wanted]
    return statistics.median(float(getattr(turn, field)) for turn in turns)


def spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = (number(pick(values), digits) for pick in (min, statistics.median, max))
    return f"{middle} ({low}–{high})"  # noqa: RUF001 - a range


def number(value: float, digits: int) -> str:
    """NaN is what could not be measured."""
    return "–" if value != value else f"{value:,.{digits}f}"  # noqa: RUF001, PLR0124 - a dash for NaN, the one value unlike itself


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """The first columns hold words, all others figures."""
    rule = ["---" if index < words else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
