"""The service connects to PostgreSQL through PgBouncer in transaction mode."""

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

from alerts_service.db.migrations import ADVISORY_LOCK_KEY
from tests.faults.load import Load
from tests.faults.pgbouncer import running_pgbouncer
from tests.faults.postgres import Postgres, running_postgres
from tests.faults.report import ReportFault
from tests.support.api import assert_error
from tests.support.processes import environment, run, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with running_postgres() as database:
        yield database


def test_quick_tests_pass_through_pgbouncer() -> None:
    with running_postgres(max_connections="300", fsync="off") as database, running_pgbouncer(database) as dsn:
        variables = {**os.environ, "TEST_DATABASE_URL": dsn, "TEST_POOLER": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    (passed,) = re.findall(r"(\d+) passed", result.stdout)
    assert int(passed) > 500


async def test_instances_that_share_few_pgbouncer_connections_reject_no_request(
    database: Postgres, tmp_path: Path, report_fault: ReportFault
) -> None:
    with running_pgbouncer(database, pool_size=4) as dsn:
        first_folder, second_folder = tmp_path / "first", tmp_path / "second"
        first_folder.mkdir()
        second_folder.mkdir()
        with (
            serving(first_folder, DATABASE_URL=dsn, AS_ALERTS_POOLER="true") as first,
            serving(second_folder, DATABASE_URL=dsn, AS_ALERTS_POOLER="true") as second,
        ):
            async with Load(first.url, second.url) as load:
                await load.wait_for_successes(2000, seconds=60)
            counts = await load.check(database.dsn)
            lines = [*first.stop(), *second.stop()]
    report_fault("PgBouncer in transaction mode, no fault", 1, counts)
    assert (counts.rejected, counts.unknown) == (0, 0)
    assert [line for line in lines if line["level"] in {"WARNING", "ERROR"} and "INTERNAL" not in line["message"]] == []


def test_requests_fail_fast_while_the_database_behind_pgbouncer_is_down(tmp_path: Path) -> None:
    """PgBouncer reports the fault after two seconds (`query_wait_timeout`); requests succeed soon after the restart."""
    with (
        running_postgres() as database,
        running_pgbouncer(database) as dsn,
        serving(tmp_path, DATABASE_URL=dsn, AS_ALERTS_POOLER="true") as service,
        service.client() as client,
    ):
        path = f"/stats/{UUID(int=0)}"
        assert client.get(path).status_code == 200
        database.kill()
        for _ in range(2):
            response = client.get(path, timeout=4)
            assert_error(response, 500, "Database connection error")
        time.sleep(4)
        database.start()
        deadline = time.monotonic() + 5
        while client.get(path).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_missing_connect_query_is_logged_with_the_missing_settings(database: Postgres, tmp_path: Path) -> None:
    with (
        running_pgbouncer(database, connect_query=False) as dsn,
        serving(tmp_path, DATABASE_URL=dsn, AS_ALERTS_POOLER="true") as service,
    ):
        (warning,) = [line for line in service.stop() if "connect_query" in line["message"]]
    assert warning["missing"] == [
        "enable_bitmapscan = off",
        "enable_seqscan = off",
        "jit = off",
        "lock_timeout = 250ms",
        "plan_cache_mode = force_generic_plan",
    ]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_start_through_pgbouncer_without_the_pooler_setting_ends_with_an_error(
    database: Postgres, tmp_path: Path, command: str
) -> None:
    """The error, one line, names the setting."""
    with running_pgbouncer(database) as dsn:
        run(tmp_path, "migrate", DATABASE_URL=dsn, AS_ALERTS_POOLER="true")
        run(tmp_path, command, DATABASE_URL=dsn)
        second_run = run(tmp_path, command, DATABASE_URL=dsn)
    assert second_run.returncode != 0
    assert "set AS_ALERTS_POOLER=true" in second_run.stderr
    assert "Traceback" not in second_run.stderr


@pytest.mark.parametrize("command", ["migrate", "recount"])
async def test_exclusive_command_waits_for_the_advisory_lock_and_releases_it(
    database: Postgres, tmp_path: Path, command: str
) -> None:
    with running_pgbouncer(database) as dsn:
        if command == "recount":
            run(tmp_path, "migrate", DATABASE_URL=dsn, AS_ALERTS_POOLER="true")
        holder = await asyncpg.connect(database.dsn)
        if command == "migrate":
            await holder.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await holder.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK_KEY)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "alerts_service",
            command,
            cwd=tmp_path,
            env=environment(DATABASE_URL=dsn, AS_ALERTS_POOLER="true"),
            stderr=subprocess.PIPE,
        )
        count_waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        for _ in range(500):
            if process.returncode is not None or await holder.fetchval(count_waiting):
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        await holder.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK_KEY)
        _, stderr = await process.communicate()
        assert process.returncode == 0, stderr.decode()
        assert await holder.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        await holder.close()
