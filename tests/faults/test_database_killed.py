"""PostgreSQL is killed under load and restarted."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.faults.load import Load, assert_failed_fast
from tests.faults.postgres import running_postgres
from tests.faults.report import ReportFault
from tests.faults.service import ResourceUsage
from tests.support.processes import running_service

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

KILLS = 5


async def test_requests_fail_fast_until_a_killed_database_is_restarted(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    """No change is lost, and after the restart no request fails."""
    with running_postgres() as database:
        async with running_service(tmp_path, DATABASE_URL=database.dsn) as service, Load(service.url) as load:
            await load.wait_for_successes(500)
            usage = ResourceUsage(service)
            for _ in range(KILLS):
                killed_at = time.monotonic()
                await asyncio.to_thread(database.kill)
                await asyncio.sleep(1)
                await asyncio.to_thread(database.start)
                assert_failed_fast(load.failed_since(killed_at))
                await load.wait_for_successes(100, seconds=5)
                recovered_at = time.monotonic()
                await load.wait_for_successes(100)
                assert [request for request in load.sent_since(recovered_at) if request.outcome != "succeeded"] == []
            usage.assert_not_grown()
        report_fault("PostgreSQL killed (`kill -9`) and restarted", KILLS, await load.check(database.dsn))


async def test_check_detects_changes_lost_by_the_database(tmp_path: Path) -> None:
    """With `synchronous_commit = off`, PostgreSQL acknowledges commits that a crash discards."""
    with running_postgres(synchronous_commit="off", wal_writer_delay="10s") as database:
        async with running_service(tmp_path, DATABASE_URL=database.dsn) as service, Load(service.url) as load:
            await load.wait_for_successes(500)
            await asyncio.to_thread(database.kill)
            await asyncio.to_thread(database.start)
            await asyncio.sleep(0.5)
        with pytest.raises(AssertionError, match=r"lost=[1-9]"):
            await load.check(database.dsn)
