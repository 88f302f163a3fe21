"""The database is unreachable when the service starts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.db.migrations import ADVISORY_LOCK_KEY
from tests.faults.postgres import Postgres, running_postgres
from tests.support.api import assert_error, create_alert
from tests.support.processes import SERVE, ServiceProcess, run, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

WORKERS = pytest.mark.parametrize("workers", [1, 2])
PROCESSES = 5
WRONG_PASSWORD = "not-the-password"


def serve_command(workers: int) -> tuple[str, ...]:
    return (*SERVE, "--workers", str(workers))


async def start_database(database: Postgres, service: ServiceProcess) -> float:
    """Start the database, and return the seconds until the service is healthy."""
    await asyncio.to_thread(database.start)
    return await wait_until_healthy(service)


async def wait_until_healthy(*services: ServiceProcess) -> float:
    """Wait until every service is healthy, and return the seconds that this took."""
    started_at = time.monotonic()
    for service in services:
        async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
            while (await client.get("/health")).status_code != 200:
                assert time.monotonic() < started_at + 10, service.log.read_text()
                await asyncio.sleep(0.02)
    return time.monotonic() - started_at


def bootstrap_messages(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["level"], line["message"]) for line in lines if line["logger"] == "alerts_service.bootstrap"]


@WORKERS
async def test_service_retries_an_unreachable_database_until_it_is_up(
    tmp_path: Path, tenant: UUID, workers: int
) -> None:
    """Meanwhile requests fail, and each process logs one warning; afterwards requests succeed without a restart."""
    with running_postgres() as database:
        database.stop()
        with serving(tmp_path, serve_command(workers), DATABASE_URL=database.dsn) as service:
            async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
                for path in ("/health", "/health/details"):
                    assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
                assert_error(await client.get(f"/stats/{tenant}"), 500, "Database connection error")
                await asyncio.sleep(1)
                assert await start_database(database, service) < 2
                await asyncio.sleep(1)
                for _ in range(2 * workers):
                    await create_alert(client, tenant)
            lines = service.stop()
    assert service.process.returncode == 0
    messages = bootstrap_messages(lines)
    assert [level for level, _ in sorted(messages)] == ["INFO"] * workers + ["WARNING"] * workers
    assert all(text == "database unreachable, retrying" for level, text in messages if level == "WARNING")


async def missing_database(database: Postgres) -> tuple[str, str]:
    """Return the DSN of a database that does not exist, and the error of PostgreSQL."""
    return urlsplit(database.dsn)._replace(path="/absent").geturl(), 'database "absent" does not exist'


async def wrong_password(database: Postgres) -> tuple[str, str]:
    """Create a role with a password; return a DSN with another password, and the error of PostgreSQL."""
    admin = await asyncpg.connect(database.dsn)
    await admin.execute("CREATE ROLE alerts LOGIN PASSWORD 'right'")
    await admin.close()
    pg_hba = database.data_dir / "pg_hba.conf"
    pg_hba.write_text("host all alerts 127.0.0.1/32 scram-sha-256\n" + pg_hba.read_text())
    dsn = urlsplit(database.dsn)._replace(netloc=f"alerts:{WRONG_PASSWORD}@127.0.0.1:{database.port}").geturl()
    return dsn, 'password authentication failed for user "alerts"'


@WORKERS
@pytest.mark.parametrize("configure", [missing_database, wrong_password])
async def test_permanent_database_error_ends_the_process(
    tmp_path: Path, configure: Callable[[Postgres], Awaitable[tuple[str, str]]], workers: int
) -> None:
    """The exit code is not 0, and the error is logged, whether the database is up at the start or comes up later."""
    with running_postgres() as database:
        dsn, error = await configure(database)
        database.stop()
        with serving(tmp_path, serve_command(workers), DATABASE_URL=dsn) as service:
            await asyncio.sleep(1)
            assert service.process.poll() is None
            await asyncio.to_thread(database.start)
            assert await asyncio.to_thread(service.process.wait, 10) == 3
            log_after_waiting = service.log.read_text()
        started_with_database = run(tmp_path, "--workers", str(workers), DATABASE_URL=dsn)
    assert started_with_database.returncode != 0
    assert len(lines_with(error, started_with_database.stderr)) == 1
    assert len(lines_with(error, log_after_waiting)) in range(1, workers + 1)
    for log in (log_after_waiting, started_with_database.stderr):
        assert "Traceback" not in log
        assert WRONG_PASSWORD not in log


def lines_with(error: str, log: str) -> list[str]:
    return [line for line in log.replace('\\"', '"').splitlines() if error in line]


async def hold_migration_lock(database: Postgres) -> None:
    """Hold the advisory lock of migrations in a prepared transaction, which a restart of the database keeps."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("BEGIN")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
    await connection.execute("PREPARE TRANSACTION 'held'")
    await connection.close()


async def release_migration_lock(database: Postgres, seconds: float = 40) -> None:
    """Release the lock once every process waits for it, so that all of them continue at the same instant."""
    connection = await asyncpg.connect(database.dsn)
    count_waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    deadline = time.monotonic() + seconds
    while await connection.fetchval(count_waiting) < PROCESSES:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await connection.execute("COMMIT PREPARED 'held'")
    await connection.close()


@pytest.mark.parametrize("database_starts_last", [False, True])
async def test_processes_that_start_at_once_on_an_empty_database_all_become_healthy(
    tmp_path: Path, *, database_starts_last: bool
) -> None:
    """Each migration is applied once."""
    folders = [tmp_path / str(number) for number in range(PROCESSES)]
    for folder in folders:
        folder.mkdir()
    with running_postgres(max_prepared_transactions="1") as database, ExitStack() as stack:
        await hold_migration_lock(database)
        if database_starts_last:
            database.stop()
        starts = asyncio.gather(
            *(asyncio.to_thread(stack.enter_context, serving(each, DATABASE_URL=database.dsn)) for each in folders)
        )
        if database_starts_last:
            await starts
            await asyncio.to_thread(database.start)
        await release_migration_lock(database)
        services = await starts
        await wait_until_healthy(*services)
        for service in services:
            async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
                await create_alert(client, uuid4())
        lines = [line for service in services for line in service.stop()]
        assert [service.process.returncode for service in services] == [0] * PROCESSES
    applied = [line["migration"] for line in lines if line["logger"] == "alerts_service.db.migrations"]
    assert len(applied) == len(set(applied)) > 0
