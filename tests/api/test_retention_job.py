"""The background job that deletes old resolved alerts and expired idempotency keys."""

import asyncio
import itertools
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest

from alerts_service.bootstrap import ready_database
from alerts_service.db.database import Database
from alerts_service.db.pool import Connection
from alerts_service.retention import job
from tests.support.database import not_pooled, settings_for
from tests.support.processes import running_service
from tests.support.retention import INSERT_KEYS, INSERT_RESOLVED, wait_for_count

pytestmark = pytest.mark.anyio


def job_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of a process log that the job wrote."""
    return [line for line in lines if line["logger"] == "alerts_service.retention.job"]


def service_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records of the service, without those of asyncpg and of the test."""
    return [record for record in caplog.records if record.name.startswith("alerts_service")]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_worker_prunes_while_it_serves_and_logs_the_totals(
    tmp_path: Path, own_connection: Connection, empty_database: str, tenant: UUID, workers: str
) -> None:
    await own_connection.execute(INSERT_RESOLVED, tenant, 1200)
    async with running_service(
        tmp_path, DATABASE_URL=empty_database, AS_ALERTS_RETENTION_DAYS="5", AS_ALERTS_WORKERS=workers
    ) as service:
        await wait_for_count(own_connection, 0)
        async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
            assert (await client.get(f"/stats/{tenant}")).json()["total"] == 0
        lines = job_lines(await asyncio.to_thread(service.stop))
    assert service.process.returncode == 0
    assert sum(line["alerts"] for line in lines) == 1200
    assert sum(line["events"] for line in lines) == 2400
    assert sum(line["batches"] for line in lines) >= 3
    assert all((line["level"], line["message"]) == ("INFO", "pruned resolved alerts") for line in lines)
    assert all(line["seconds"] > 0 for line in lines)


async def test_without_a_retention_period_no_alert_is_deleted(
    tmp_path: Path, own_connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """Expired idempotency keys are deleted all the same."""
    await own_connection.execute(INSERT_RESOLVED, tenant, 10)
    await own_connection.execute(INSERT_KEYS, tenant, 1)
    async with running_service(tmp_path, DATABASE_URL=empty_database) as service:
        await wait_for_count(own_connection, 1, "idempotency_keys")
        lines = job_lines(await asyncio.to_thread(service.stop))
    assert [line["message"] for line in lines] == ["pruned expired idempotency keys"]
    assert await own_connection.fetchval("SELECT count(*) FROM alerts") == 10


async def test_a_shutdown_interrupts_the_run_and_logs_its_totals(
    tmp_path: Path, own_connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """The batch that is running at the shutdown may be deleted without being logged."""
    await own_connection.execute(INSERT_RESOLVED, tenant, 40_000)
    async with running_service(tmp_path, DATABASE_URL=empty_database, AS_ALERTS_RETENTION_DAYS="5") as service:
        await asyncio.sleep(0.5)
        started = time.monotonic()
        (line,) = job_lines(await asyncio.to_thread(service.stop))
        assert service.process.returncode == 0
        assert time.monotonic() - started < 1.5
    remaining = await own_connection.fetchval("SELECT count(*) FROM alerts")
    assert 0 < remaining < 40_000
    assert 40_000 - remaining - line["alerts"] in {0, 500}
    assert await own_connection.fetchval("SELECT count(*) FROM alert_events") == 2 * remaining


@not_pooled
async def test_pruning_resumes_when_an_unreachable_database_returns(
    server_url: str,
    empty_database: str,
    tenant: UUID,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each run in between logs that the database is unreachable."""
    monkeypatch.setattr(job, "PRUNE_INTERVAL_SECONDS", 0.3)
    caplog.set_level(logging.INFO, "alerts_service.retention.job")
    admin, name = await asyncpg.connect(server_url), urlsplit(empty_database).path[1:]
    async with ready_database(settings_for(database_url=empty_database)) as database:
        connection = await asyncpg.connect(empty_database)
        await connection.execute(INSERT_RESOLVED, tenant, 10)
        await connection.close()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = $1", name)
        runs = itertools.count()
        async with job.pruning(7, lambda: (database, next(runs))[0]):
            await asyncio.sleep(0.8)
            failures = service_records(caplog)
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            assert 2 <= len(failures) <= next(runs)
            await asyncio.sleep(0.8)
    await admin.close()
    assert {(record.levelname, record.message) for record in failures} == {("ERROR", "database unreachable")}
    assert [record.message for record in service_records(caplog)[len(failures) :]] == ["pruned resolved alerts"]


@pytest.mark.parametrize(
    ("obstacle", "level", "message"),
    [
        ("LOCK TABLE alerts", "WARNING", "pruning postponed"),
        ("ALTER TABLE alerts RENAME TO gone", "ERROR", "pruning failed"),
    ],
    ids=["locked table", "missing table"],
)
async def test_a_failed_run_is_logged_and_the_next_one_tries_again(
    own_database: Database,
    own_connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tenant: UUID,
    obstacle: str,
    level: str,
    message: str,
) -> None:
    monkeypatch.setattr(job, "PRUNE_INTERVAL_SECONDS", 0.1)
    await own_connection.execute(INSERT_RESOLVED, tenant, 10)
    transaction = own_connection.transaction()
    await transaction.start()
    await own_connection.execute(obstacle)
    if "RENAME" in obstacle:
        await transaction.commit()
    async with job.pruning(7, lambda: own_database):
        await asyncio.sleep(0.6)
        assert {(record.levelname, record.message) for record in service_records(caplog)} == {(level, message)}
        if "RENAME" in obstacle:
            await own_connection.execute("ALTER TABLE gone RENAME TO alerts")
        else:
            await transaction.rollback()
        await wait_for_count(own_connection, 0)


@pytest.mark.parametrize("days", [None, 7])
async def test_expired_keys_are_deleted_with_and_without_a_retention_period(
    own_database: Database,
    own_connection: Connection,
    tenant: UUID,
    caplog: pytest.LogCaptureFixture,
    days: int | None,
) -> None:
    """Valid and locked keys stay."""
    caplog.set_level(logging.INFO, "alerts_service.retention.job")
    await own_connection.execute(INSERT_KEYS, tenant, 1200)
    async with own_connection.transaction():
        await own_connection.execute("SELECT FROM idempotency_keys WHERE key = '7' FOR UPDATE")
        async with job.pruning(days, lambda: own_database):
            await wait_for_count(own_connection, 2, "idempotency_keys")
    remaining = await own_connection.fetch("SELECT key FROM idempotency_keys ORDER BY key")
    assert [row["key"] for row in remaining] == ["0", "7"]
    (record,) = service_records(caplog)
    assert record.message == "pruned expired idempotency keys"
    assert (vars(record)["keys"], vars(record)["batches"]) == (1199, 3)


async def test_expired_keys_are_deleted_every_five_minutes(
    own_database: Database, own_connection: Connection, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job.PRUNE_INTERVAL_SECONDS == 300
    monkeypatch.setattr(job, "PRUNE_INTERVAL_SECONDS", 0.05)
    async with job.pruning(None, lambda: own_database):
        for _ in range(2):
            await own_connection.execute("TRUNCATE idempotency_keys")
            await own_connection.execute(INSERT_KEYS, tenant, 10)
            await wait_for_count(own_connection, 1, "idempotency_keys")
