"""Reports of the fault tests, printed as the tables of README.md in this folder."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from _pytest.terminal import TerminalReporter

from tests.faults.load import Figures

Report: TypeAlias = Callable[[str, int, Figures], None]
ReportNeighbour: TypeAlias = Callable[[str, int, int, int, dict[str, float], dict[str, float]], None]

ROWS = pytest.StashKey[list[str]]()
NEIGHBOUR_ROWS = pytest.StashKey[list[str]]()
HEAD = (
    "| Fault under load | times | succeeded | rejected | outcome unknown | lost | duplicated |",
    "|---|---:|---:|---:|---:|---:|---:|",
)
NEIGHBOUR_HEAD = (
    "| Load by one tenant | connections | requests of others | failed | p99 ms: create | get | list | search | ratio |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---|",
)
VERBS = ("create", "get", "list", "search")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Call it with what was done, how often, and what `Load.check` returned."""

    def add(what: str, times: int, figures: Figures) -> None:
        numbers = (times, figures.succeeded, figures.rejected, figures.unknown, figures.lost, figures.duplicated)
        rows.append(f"| {what} | " + " | ".join(f"{number:,}" for number in numbers) + " |")

    rows = request.config.stash.setdefault(ROWS, [])
    return add


@pytest.fixture
def report_neighbour(request: pytest.FixtureRequest) -> ReportNeighbour:
    """Call it with the load, its connections, and what the neighbour saw: requests, failures, p99 in s, ratios."""

    def add(
        what: str, connections: int, requests: int, failed: int, p99: dict[str, float], ratios: dict[str, float]
    ) -> None:
        milliseconds = " | ".join(f"{p99[verb] * 1000:.1f}" for verb in VERBS)
        times = ", ".join(f"{ratios[verb]:.1f}" for verb in VERBS)
        rows.append(f"| {what} | {connections} | {requests:,} | {failed} | {milliseconds} | {times} |")

    rows = request.config.stash.setdefault(NEIGHBOUR_ROWS, [])
    return add


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, None):
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join((*HEAD, *rows)))
    if rows := config.stash.get(NEIGHBOUR_ROWS, None):
        terminalreporter.section("one tenant against the others")
        terminalreporter.write_line("\n".join((*NEIGHBOUR_HEAD, *rows)))
