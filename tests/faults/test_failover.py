"""The primary is killed or becomes read-only under load, and its standby is promoted."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.faults.load import Load
from tests.faults.postgres import Postgres, running_postgres
from tests.faults.report import ReportFault
from tests.faults.standby import promote, read_write_dsn, running_standby, wait_for_synchronous_standby
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

MAX_FAILOVER_SECONDS = 5


@asynccontextmanager
async def synchronous_replication() -> AsyncIterator[tuple[Postgres, Postgres]]:
    """Run a primary whose commits wait for its standby, and yield both."""
    with running_postgres(synchronous_standby_names="*") as primary, running_standby(primary) as standby:
        await wait_for_synchronous_standby(primary)
        yield primary, standby


async def set_read_only(server: Postgres, *, enabled: bool) -> None:
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if enabled else 'off'}")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()


async def measure_failover(standby: Postgres, load: Load) -> float:
    """Promote the standby, and return the seconds from the promotion to the first request that succeeds."""
    await asyncio.sleep(0.5)
    await promote(standby)
    promoted_at = time.monotonic()
    await load.wait_for_successes(1)
    seconds = time.monotonic() - promoted_at
    await load.wait_for_successes(500)
    return seconds


async def test_service_connects_to_the_promoted_standby_when_the_primary_is_killed(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    """Every change that was answered with success is on the standby."""
    async with synchronous_replication() as (primary, standby):
        with serving(tmp_path, DATABASE_URL=read_write_dsn(primary, standby)) as service:
            async with Load(service.url) as load:
                await load.wait_for_successes(500)
                await asyncio.to_thread(primary.kill)
                failover_seconds = await measure_failover(standby, load)
            report_fault("primary killed (`kill -9`), standby promoted", 1, await load.check(standby.dsn))
    assert failover_seconds < MAX_FAILOVER_SECONDS, failover_seconds


async def test_service_leaves_a_read_only_primary_for_the_promoted_standby(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    """Open connections to a primary that becomes read-only are replaced by connections to the new primary."""
    async with synchronous_replication() as (primary, standby):
        with serving(tmp_path, DATABASE_URL=read_write_dsn(primary, standby)) as service:
            async with Load(service.url) as load:
                await load.wait_for_successes(500)
                await set_read_only(primary, enabled=True)
                failover_seconds = await measure_failover(standby, load)
            report_fault("primary made read-only, standby promoted", 1, await load.check(standby.dsn))
    assert failover_seconds < MAX_FAILOVER_SECONDS, failover_seconds


async def test_changes_fail_with_500_while_the_database_is_read_only(tmp_path: Path, report_fault: ReportFault) -> None:
    with running_postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        async with Load(service.url) as load:
            await load.wait_for_successes(500)
            await set_read_only(database, enabled=True)
            await asyncio.sleep(0.2)
            start = time.monotonic()
            await asyncio.sleep(1)
            end = time.monotonic()
            await set_read_only(database, enabled=False)
            await load.wait_for_successes(500)
        report_fault("database read-only for 1 s", 1, await load.check(database.dsn))
        lines = service.stop()
    changes = [request for request in load.sent_since(start) if request.ended_at < end and request.operation != "get"]
    assert {(request.status, request.body) for request in changes} == {
        (500, '{"error":"Database connection error","detail":null}')
    }
    assert [line for line in lines if line["message"].startswith(("unhandled", "unexpected"))] == []
