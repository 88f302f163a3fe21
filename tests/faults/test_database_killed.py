"""PostgreSQL dies under load and comes back."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load, assert_failed_fast
from tests.faults.postgres import postgres
from tests.faults.service import Weight, service

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

TIMES = 5


async def test_a_killed_database(tmp_path: Path, report: Report) -> None:
    """Nothing is lost when PostgreSQL is killed; until it is back clients are told so at once, and then all is well."""
    with postgres() as database:
        async with service(tmp_path, DATABASE_URL=database.dsn) as process, Load(process.url) as load:
            await load.wait_for_successes(500)
            weight = Weight(process)
            for _ in range(TIMES):
                killed = time.monotonic()
                await asyncio.to_thread(database.kill)
                await asyncio.sleep(1)
                await asyncio.to_thread(database.start)
                assert_failed_fast(load.failed_since(killed))
                await load.wait_for_successes(100, seconds=5)
                well = time.monotonic()
                await load.wait_for_successes(100)
                assert [request for request in load.sent_since(well) if request.outcome != "succeeded"] == []
            weight.assert_kept()
        report("PostgreSQL killed (`kill -9`) and restarted", TIMES, await load.check(database.dsn))


async def test_the_account_is_true(tmp_path: Path) -> None:
    """Of a database that says that it has committed what it has not, the account tells what was lost."""
    with postgres(synchronous_commit="off", wal_writer_delay="10s") as database:
        async with service(tmp_path, DATABASE_URL=database.dsn) as process, Load(process.url) as load:
            await load.wait_for_successes(500)
            await asyncio.to_thread(database.kill)
            await asyncio.to_thread(database.start)
            await asyncio.sleep(0.5)
        with pytest.raises(AssertionError, match=r"lost=[1-9]"):
            await load.check(database.dsn)
