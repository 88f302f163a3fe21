"""PostgreSQL is not up yet when the service starts."""

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
from tests.faults.postgres import Postgres, postgres
from tests.support.api import assert_error, create
from tests.support.processes import SERVE, ServiceProcess, run, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

WORKERS = pytest.mark.parametrize("workers", [1, 2])
PROCESSES = 5


def command(workers: int) -> tuple[str, ...]:
    return (*SERVE, "--workers", str(workers))


async def start(database: Postgres, service: ServiceProcess) -> float:
    """Start the database, and return how many seconds later the service is healthy."""
    await asyncio.to_thread(database.start)
    return await healthy(service)


async def healthy(*services: ServiceProcess) -> float:
    """Return how many seconds later every service is healthy."""
    started = time.monotonic()
    for service in services:
        async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
            while (await client.get("/health")).status_code != 200:
                assert time.monotonic() < started + 10, service.log.read_text()
                await asyncio.sleep(0.02)
    return time.monotonic() - started


def about_waiting(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["level"], line["message"]) for line in lines if line["logger"] == "alerts_service.bootstrap"]


@WORKERS
async def test_a_database_that_comes_late_is_awaited(tmp_path: Path, tenant: UUID, workers: int) -> None:
    """The service listens and waits, says so once, and serves by itself soon after the database came."""
    with postgres() as database:
        database.stop()
        with serving(tmp_path, command(workers), DATABASE_URL=database.dsn) as service:
            async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
                for path in ("/health", "/health/details"):
                    assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
                assert_error(await client.get(f"/stats/{tenant}"), 500, "Database connection error")
                await asyncio.sleep(1)
                assert await start(database, service) < 2
                await asyncio.sleep(1)
                for _ in range(2 * workers):
                    await create(client, tenant)
            lines = service.stop()
    assert service.process.returncode == 0
    said = about_waiting(lines)
    assert [level for level, _ in sorted(said)] == ["INFO"] * workers + ["WARNING"] * workers
    assert all(text == "database unreachable, retrying" for level, text in said if level == "WARNING")


async def absent_database(database: Postgres) -> tuple[str, str]:
    """Return an address that leads nowhere, and why."""
    return urlsplit(database.dsn)._replace(path="/absent").geturl(), 'database "absent" does not exist'


async def wrong_password(database: Postgres) -> tuple[str, str]:
    """Let one user in by a password only, and return an address with another password, and why that is none."""
    admin = await asyncpg.connect(database.dsn)
    await admin.execute("CREATE ROLE alerts LOGIN PASSWORD 'right'")
    await admin.close()
    rules = database.folder / "pg_hba.conf"
    rules.write_text("host all alerts 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    url = urlsplit(database.dsn)._replace(netloc=f"alerts:geheim@127.0.0.1:{database.port}").geturl()
    return url, 'password authentication failed for user "alerts"'


@WORKERS
@pytest.mark.parametrize("mistake", [absent_database, wrong_password])
async def test_what_waiting_does_not_mend_ends_the_process(
    tmp_path: Path, mistake: Callable[[Postgres], Awaitable[tuple[str, str]]], workers: int
) -> None:
    """Where the database that came is none to serve from, the process ends by itself, not with 0, and says why."""
    with postgres() as database:
        url, reason = await mistake(database)
        database.stop()
        with serving(tmp_path, command(workers), DATABASE_URL=url) as service:
            await asyncio.sleep(1)
            assert service.process.poll() is None
            await asyncio.to_thread(database.start)
            assert await asyncio.to_thread(service.process.wait, 10) == 3
            waited = service.log.read_text()
        at_once = run(tmp_path, "--workers", str(workers), DATABASE_URL=url)
    assert at_once.returncode != 0
    assert len(lines_with(reason, at_once.stderr)) == 1
    assert len(lines_with(reason, waited)) in range(1, workers + 1)
    for text in (waited, at_once.stderr):
        assert "Traceback" not in text
        assert "geheim" not in text


def lines_with(reason: str, text: str) -> list[str]:
    return [line for line in text.replace('\\"', '"').splitlines() if reason in line]


async def hold_back(database: Postgres) -> None:
    """Let no process come further than to the migrations, also after the database has started again."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("BEGIN")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
    await connection.execute("PREPARE TRANSACTION 'held'")
    await connection.close()


async def let_go(database: Postgres, seconds: float = 40) -> None:
    """Let every process come that far, and then all of them go on at the same instant."""
    connection = await asyncpg.connect(database.dsn)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    deadline = time.monotonic() + seconds
    while await connection.fetchval(waiting) < PROCESSES:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await connection.execute("COMMIT PREPARED 'held'")
    await connection.close()


@pytest.mark.parametrize("late", [False, True])
async def test_several_processes_start_on_one_empty_database(tmp_path: Path, *, late: bool) -> None:
    """Processes that migrate at the same instant, or for which the database comes at the same instant, all come up."""
    folders = [tmp_path / str(number) for number in range(PROCESSES)]
    for folder in folders:
        folder.mkdir()
    with postgres(max_prepared_transactions="1") as database, ExitStack() as stack:
        await hold_back(database)
        if late:
            database.stop()
        starts = asyncio.gather(
            *(asyncio.to_thread(stack.enter_context, serving(each, DATABASE_URL=database.dsn)) for each in folders)
        )
        if late:
            await starts
            await asyncio.to_thread(database.start)
        await let_go(database)
        services = await starts
        await healthy(*services)
        for service in services:
            async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
                await create(client, uuid4())
        lines = [line for service in services for line in service.stop()]
        assert [service.process.returncode for service in services] == [0] * PROCESSES
    applied = [line["migration"] for line in lines if line["logger"] == "alerts_service.db.migrations"]
    assert len(applied) == len(set(applied)) > 0
