"""What was done to the service and what became of its requests, as the table that the README shows."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from _pytest.terminal import TerminalReporter

from tests.faults.load import Figures

Report: TypeAlias = Callable[[str, int, Figures], None]

ROWS = pytest.StashKey[list[str]]()
HEAD = (
    "| What was done, under load | times | answered | refused | uncertain | lost | doubled |",
    "|---|---:|---:|---:|---:|---:|---:|",
)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Call it with what was done, how often, and what `Load.check` returned."""

    def add(what: str, times: int, figures: Figures) -> None:
        numbers = (times, figures.answered, figures.refused, figures.unknown, figures.lost, figures.doubled)
        rows.append(f"| {what} | " + " | ".join(f"{number:,}" for number in numbers) + " |")

    rows = request.config.stash.setdefault(ROWS, [])
    return add


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, None):
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join((*HEAD, *rows)))
