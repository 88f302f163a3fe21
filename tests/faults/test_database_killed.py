"""PostgreSQL dies under load and comes back."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.postgres import postgres
from tests.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

TIMES = 4


async def test_a_killed_database_loses_nothing(tmp_path: Path, report: Report) -> None:
    """Whatever was answered is there after PostgreSQL was killed, once, and nothing that was refused."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        async with Load(service.url) as load:
            for _ in range(TIMES):
                await load.answered(200)
                await asyncio.to_thread(database.kill)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(database.start)
            await load.answered(200)
        report("PostgreSQL killed (`kill -9`) and started again", TIMES, await load.check(database.dsn))
