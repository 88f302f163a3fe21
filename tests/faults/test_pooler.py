"""PgBouncer in transaction mode stands before the database."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from alerts_service.db.migrations import LOCK
from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.pgbouncer import pgbouncer
from tests.faults.postgres import Postgres, postgres
from tests.support.api import assert_error
from tests.support.processes import environment, run, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as database:
        yield database


def test_the_suite_through_a_pooler() -> None:
    """Every test that reaches the database passes through PgBouncer."""
    with postgres(max_connections="300", fsync="off") as database, pgbouncer(database) as url:
        given = {**os.environ, "TEST_DATABASE_URL": url, "TEST_POOLER": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 500


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
                await load.wait_for_successes(2000, seconds=60)
            figures = await load.check(database.dsn)
            lines = [*one.stop(), *two.stop()]
    report("PgBouncer in transaction mode, no fault", 1, figures)
    assert (figures.rejected, figures.unknown) == (0, 0)
    assert [line for line in lines if line["level"] in {"WARNING", "ERROR"} and "INTERNAL" not in line["message"]] == []


def test_a_database_that_is_gone_behind_the_pooler(tmp_path: Path) -> None:
    """Without the database a route is 500 in about two seconds, and a second or two after it is back all is well."""
    with (
        postgres() as database,
        pgbouncer(database) as url,
        serving(tmp_path, DATABASE_URL=url, AS_ALERTS_POOLER="true") as service,
        service.client() as client,
    ):
        path = f"/stats/{UUID(int=0)}"
        assert client.get(path).status_code == 200
        database.kill()
        for _ in range(2):
            answer = client.get(path, timeout=4)
            assert_error(answer, 500, "Database connection error")
        time.sleep(4)
        database.start()
        deadline = time.monotonic() + 5
        while client.get(path).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_pooler_that_tells_its_servers_nothing(database: Postgres, tmp_path: Path) -> None:
    """A start through a pooler without the `connect_query` of pgbouncer.ini names what the sessions lack."""
    with (
        pgbouncer(database, connect_query=False) as url,
        serving(tmp_path, DATABASE_URL=url, AS_ALERTS_POOLER="true") as service,
    ):
        (warning,) = [line["message"] for line in service.stop() if "connect_query" in line["message"]]
    assert warning == (
        "The pooler's connect_query must SET enable_bitmapscan = off, enable_seqscan = off, jit = off, "
        "lock_timeout = 250ms, plan_cache_mode = force_generic_plan"
    )


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_pooler_that_nobody_told_of(database: Postgres, tmp_path: Path, command: str) -> None:
    """Without its setting a start through a pooler ends with one line that names it."""
    with pgbouncer(database) as url:
        run(tmp_path, "migrate", DATABASE_URL=url, AS_ALERTS_POOLER="true")
        ended = [run(tmp_path, command, DATABASE_URL=url) for _ in range(2)][-1]
    assert ended.returncode != 0
    assert "set AS_ALERTS_POOLER=true" in ended.stderr
    assert "Traceback" not in ended.stderr


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
