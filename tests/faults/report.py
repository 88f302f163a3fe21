"""Rows of the two tables of README.md in this folder."""

from collections.abc import Callable
from typing import TypeAlias

from tests.faults.load import OutcomeCounts

# Called with the title of the row, the number of times that the fault occurred, and the result of `Load.check`.
ReportFault: TypeAlias = Callable[[str, int, OutcomeCounts], None]

# Called with the title of the row, the number of connections of the load, the numbers of all and of failed requests of
# the other tenant, and by operation its p99 latency in seconds and the ratio of that to its p99 without the load.
ReportLatency: TypeAlias = Callable[[str, int, int, int, dict[str, float], dict[str, float]], None]

FAULT_HEADER = (
    "| Fault under load | times | succeeded | rejected | outcome unknown | lost | duplicated |",
    "|---|---:|---:|---:|---:|---:|---:|",
)
LATENCY_HEADER = (
    "| Load by one tenant | connections | requests of others | failed | p99 ms: create | get | list | search | ratio |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---|",
)
LATENCY_OPERATIONS = ("create", "get", "list", "search")


def fault_row(title: str, times: int, counts: OutcomeCounts) -> str:
    cells = (times, counts.succeeded, counts.rejected, counts.unknown, counts.lost, counts.duplicated)
    return f"| {title} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"


def latency_row(
    title: str, connections: int, requests: int, failed: int, p99: dict[str, float], ratios: dict[str, float]
) -> str:
    milliseconds = " | ".join(f"{p99[operation] * 1000:.1f}" for operation in LATENCY_OPERATIONS)
    ratio_list = ", ".join(f"{ratios[operation]:.1f}" for operation in LATENCY_OPERATIONS)
    return f"| {title} | {connections} | {requests:,} | {failed} | {milliseconds} | {ratio_list} |"
