"""PgBouncer in transaction mode stands before the database."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from alerts_service.migrations import LOCK
from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.pgbouncer import pgbouncer
from tests.faults.postgres import Postgres, postgres
from tests.processes import environment, run, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

ROOT = Path(__file__).parents[2]
SUITE = [f"tests/test_{name}.py" for name in ("create", "list", "workflow", "stats", "validation")]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as database:
        yield database


def test_the_routes_through_a_pooler(database: Postgres) -> None:
    """The tests of the routes pass through PgBouncer."""
    with pgbouncer(database) as url:
        given = {**os.environ, "TEST_DATABASE_URL": url, "TEST_POOLER": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITE]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


async def test_load_through_a_pooler(database: Postgres, tmp_path: Path, report: Report) -> None:
    """Two processes that share few connections of a pooler refuse nothing, and log no error."""
    with pgbouncer(database, pool_size=4) as url:
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        with (
            serving(first, DATABASE_URL=url, AS_ALERTS_POOLER="true") as one,
            serving(second, DATABASE_URL=url, AS_ALERTS_POOLER="true") as two,
        ):
            async with Load(one.url, two.url) as load:
                await load.answered(2000, seconds=60)
            figures = await load.check(database.dsn)
            lines = [*one.stop(), *two.stop()]
    report("PgBouncer in transaction mode", 1, figures)
    assert (figures.refused, figures.unknown) == (0, 0)
    assert [line for line in lines if line["level"] in {"WARNING", "ERROR"} and "INTERNAL" not in line["message"]] == []


def test_a_pooler_that_tells_its_servers_nothing(database: Postgres, tmp_path: Path) -> None:
    """A start through a pooler without the README's line names what the sessions lack."""
    with (
        pgbouncer(database, told=False) as url,
        serving(tmp_path, DATABASE_URL=url, AS_ALERTS_POOLER="true") as service,
    ):
        (warning,) = [line["message"] for line in service.stop() if "connect_query" in line["message"]]
    assert warning == (
        "The pooler's connect_query must SET enable_bitmapscan = off, enable_seqscan = off, jit = off, "
        "lock_timeout = 250ms, plan_cache_mode = force_generic_plan"
    )


@pytest.mark.parametrize("command", ["migrate", "recount"])
async def test_a_command_waits_for_another(database: Postgres, tmp_path: Path, command: str) -> None:
    """A command that must be alone waits as long as another runs, and leaves no lock behind."""
    with pgbouncer(database) as url:
        if command == "recount":
            run(tmp_path, "migrate", DATABASE_URL=url, AS_ALERTS_POOLER="true")
        holder = await asyncpg.connect(database.dsn)
        if command == "migrate":
            await holder.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await holder.execute("SELECT pg_advisory_lock($1)", LOCK)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "alerts_service",
            command,
            cwd=tmp_path,
            env=environment(DATABASE_URL=url, AS_ALERTS_POOLER="true"),
            stderr=subprocess.PIPE,
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        for _ in range(500):
            if process.returncode is not None or await holder.fetchval(waiting):
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        await holder.execute("SELECT pg_advisory_unlock($1)", LOCK)
        _, complaint = await process.communicate()
        assert process.returncode == 0, complaint.decode()
        assert await holder.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        await holder.close()
