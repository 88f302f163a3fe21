"""Fixtures that collect the results of the fault tests; pytest prints them as the tables of README.md."""

import pytest
from _pytest.terminal import TerminalReporter

from tests.faults.load import OutcomeCounts
from tests.faults.report import (
    FAULT_HEADER,
    LATENCY_HEADER,
    ReportFault,
    ReportLatency,
    fault_row,
    latency_row,
)

FAULT_ROWS = pytest.StashKey[list[str]]()
LATENCY_ROWS = pytest.StashKey[list[str]]()


@pytest.fixture
def report_fault(request: pytest.FixtureRequest) -> ReportFault:
    rows = request.config.stash.setdefault(FAULT_ROWS, [])

    def add_row(title: str, times: int, counts: OutcomeCounts) -> None:
        rows.append(fault_row(title, times, counts))

    return add_row


@pytest.fixture
def report_latency(request: pytest.FixtureRequest) -> ReportLatency:
    rows = request.config.stash.setdefault(LATENCY_ROWS, [])

    def add_row(
        title: str, connections: int, requests: int, failed: int, p99: dict[str, float], ratios: dict[str, float]
    ) -> None:
        rows.append(latency_row(title, connections, requests, failed, p99, ratios))

    return add_row


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(FAULT_ROWS, None):
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join((*FAULT_HEADER, *rows)))
    if rows := config.stash.get(LATENCY_ROWS, None):
        terminalreporter.section("one tenant against the others")
        terminalreporter.write_line("\n".join((*LATENCY_HEADER, *rows)))
