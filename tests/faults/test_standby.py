"""The primary dies or takes no more writes under load, and its standby takes its place."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.postgres import Postgres, postgres
from tests.faults.standby import both, follows, promote, standby
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

SECONDS = 5


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Postgres, Postgres]]:
    """A primary that answers only for what its standby has too, and the standby."""
    with postgres(synchronous_standby_names="*") as primary, standby(primary) as follower:
        await follows(primary)
        yield primary, follower


async def read_only(server: Postgres, *, is_: bool) -> None:
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if is_ else 'off'}")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()


async def promoted_and_found(follower: Postgres, load: Load) -> float:
    """Promote the standby, and tell how many seconds later the first request was answered again."""
    await asyncio.sleep(0.5)
    await promote(follower)
    promoted = time.monotonic()
    await load.wait_for_successes(1)
    found = time.monotonic() - promoted
    await load.wait_for_successes(500)
    return found


async def test_the_standby_of_a_killed_primary_takes_over(tmp_path: Path, report: Report) -> None:
    """Whatever was answered is on the promoted standby, which the service finds by itself."""
    async with pair() as (primary, follower):
        with serving(tmp_path, DATABASE_URL=both(primary, follower)) as service:
            async with Load(service.url) as load:
                await load.wait_for_successes(500)
                await asyncio.to_thread(primary.kill)
                found = await promoted_and_found(follower, load)
            report("primary killed (`kill -9`), standby promoted", 1, await load.check(follower.dsn))
    assert found < SECONDS, found


async def test_a_primary_that_takes_no_more_writes_is_let_go(tmp_path: Path, report: Report) -> None:
    """Whoever is connected to a primary that became read-only goes over to the one that takes writes."""
    async with pair() as (primary, follower):
        with serving(tmp_path, DATABASE_URL=both(primary, follower)) as service:
            async with Load(service.url) as load:
                await load.wait_for_successes(500)
                await read_only(primary, is_=True)
                found = await promoted_and_found(follower, load)
            report("primary made read-only, standby promoted", 1, await load.check(follower.dsn))
    assert found < SECONDS, found


async def test_a_database_that_is_read_only_for_a_while(tmp_path: Path, report: Report) -> None:
    """A read-only database is an error in the documented shape for who changes something, and none for who reads."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        async with Load(service.url) as load:
            await load.wait_for_successes(500)
            await read_only(database, is_=True)
            await asyncio.sleep(0.2)
            shut = time.monotonic()
            await asyncio.sleep(1)
            opened = time.monotonic()
            await read_only(database, is_=False)
            await load.wait_for_successes(500)
        report("database read-only for 1 s", 1, await load.check(database.dsn))
        lines = service.stop()
    meanwhile = [request for request in load.sent_since(shut) if request.end < opened and request.verb != "get"]
    assert {(request.status, request.body) for request in meanwhile} == {
        (500, '{"error":"Database connection error","detail":null}')
    }
    assert [line for line in lines if "Unforeseen" in line["message"]] == []
