"""Report of the comparison, and formatting of Markdown tables for all reports."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from math import isnan

from tests.bench.compare import ComparePlan, Sample
from tests.bench.servers import SERVICE

PACKAGES = ("litestar", "fastapi", "pydantic", "msgspec", "asyncpg", "uvicorn", "uvloop", "httptools")
CONDITIONS = """The service writes its access log to a file; its peers write none. Clients and PostgreSQL share the
processors with the servers. wrk sends from one thread, each request as soon as the previous response has arrived, and
corrects its percentiles for coordinated omission."""
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


def describe_environment(database_version: str) -> str:
    """Return a sentence with the date, and the versions and the machine of the run."""
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, PostgreSQL {database_version}, "
        f"{os.cpu_count()} processors ({platform.machine()}), load average at the end {load}; {packages}."
    )


def comparison(plan: ComparePlan, samples: Sequence[Sample], database_version: str) -> str:
    """Return the report: one table per number of connections."""
    parts = [
        "# The service and other implementations",
        describe_environment(database_version),
        f"Medians of {plan.rounds} interleaved rounds of {plan.seconds:g} s, with minimum and maximum in brackets.",
        "Ratios are computed per round; above 1, the service is faster.",
        CONDITIONS,
    ]
    for connections in plan.connections:
        subset = [sample for sample in samples if sample.connections == connections]
        rows = [_row(subset, scenario, server) for scenario in plan.scenarios for server in _servers(subset)]
        title = f"## {connections} connection{'s' if connections > 1 else ''}"
        parts += [title, markdown_table(HEAD, rows, text_columns=2)]
    return "\n\n".join(parts) + "\n"


def _servers(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.server for sample in samples))


def _row(samples: Sequence[Sample], scenario: str, server: str) -> list[str]:
    service_samples, server_samples = (
        [sample for sample in samples if (sample.scenario, sample.server) == (scenario, name)]
        for name in (SERVICE, server)
    )
    ratios = [
        service.per_second / other.per_second for service, other in zip(service_samples, server_samples, strict=True)
    ]

    def format_median(value: Callable[[Sample], float], digits: int) -> str:
        return format_number(statistics.median(map(value, server_samples)), digits)

    return [
        scenario,
        server,
        format_range([sample.per_second for sample in server_samples], 0),
        "" if server == SERVICE else format_range(ratios, 2),
        format_median(lambda sample: sample.p50_ms, 2),
        format_median(lambda sample: sample.p99_ms, 2),
        format_median(lambda sample: sample.cpu_us, 0),
        format_median(lambda sample: sample.database_cpu_us, 0),
        format_median(lambda sample: sample.resident_mb, 0),
    ]


def median_of(samples: Iterable[Sample], scenario: str, server: str, connections: int, field: str) -> float:
    """Return the median of a field over the rounds of one server."""
    key = (scenario, server, connections)
    rounds = [sample for sample in samples if (sample.scenario, sample.server, sample.connections) == key]
    return statistics.median(float(getattr(sample, field)) for sample in rounds)


def format_range(values: Sequence[float], digits: int) -> str:
    """Format the median, with minimum and maximum in brackets."""
    low, middle, high = (format_number(pick(values), digits) for pick in (min, statistics.median, max))
    return f"{middle} ({low}–{high})"  # noqa: RUF001 - an en dash is the sign of a range


def format_number(value: float, digits: int) -> str:
    """Format with thousands separators; NaN, a value that could not be measured, is a dash."""
    return "–" if isnan(value) else f"{value:,.{digits}f}"  # noqa: RUF001 - an en dash, as in the ranges


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Format a table whose first columns contain text, and whose other columns contain right-aligned numbers."""
    rule = ["---" if index < text_columns else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
