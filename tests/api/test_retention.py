"""Alerts that were resolved long enough ago go, and nothing else does."""

import asyncio
import itertools
import logging
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.bootstrap import check_schema, ready_database
from alerts_service.db.database import Database
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection
from alerts_service.db.queries import load_queries
from alerts_service.errors import StartupError
from alerts_service.retention import job as retention
from alerts_service.retention.job import PRUNE, PRUNE_KEYS, Pruned, prune
from tests.faults.service import running_service
from tests.support.api import assert_error, client_for, create_alert, get_history, transition
from tests.support.database import not_pooled, open_database, settings_for
from tests.support.processes import run

pytestmark = pytest.mark.anyio

OLDER = "UPDATE alerts SET resolved_at = now() - $2::text::interval WHERE id = $1"
RESOLVED = """
WITH resolved AS (
    INSERT INTO alerts (tenant_id, rule_name, message, status, resolved_at, version)
    SELECT $1, 'r', 'm', 'resolved', now() - interval '9 days', 2
    FROM generate_series(1, $2)
    RETURNING id, tenant_id
),
logged AS (
    INSERT INTO alert_events (alert_id, sequence, tenant_id, type, to_status, actor, occurred_at)
    SELECT id, sequence, tenant_id, 'created', 'triggered', 'anonymous', now()
    FROM resolved, generate_series(1, 2) AS sequence
)
INSERT INTO alert_counts (tenant_id, lane, resolved) VALUES ($1, -1, $2)
"""

# One key that is still valid, and as many as asked for that have expired.
KEYS = """
INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, body, created_at)
SELECT $1, 'POST /alerts', n, '', 201, '', now() - CASE n WHEN 0 THEN interval '23:59' ELSE interval '24:00:01' END
FROM generate_series(0, $2::integer) AS n
"""


@pytest.fixture
async def database(empty_database: str) -> AsyncIterator[Database]:
    """A database of its own: what is pruned is pruned for every tenant."""
    async with ready_database(settings_for(database_url=empty_database, retention_days=7, pool_size=4)) as database:
        yield database


@pytest.fixture
async def own_client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(create_app(settings_for(), database)) as client:
        yield client


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    yield connection
    await connection.close()


async def pruned_by(database: Database) -> tuple[int, int, int]:
    pruned = Pruned()
    await prune(lambda since: database.one(PRUNE, days=7, since=since, max_events=None), pruned)
    return pruned.alerts, pruned.events, pruned.batches


async def keys_pruned_by(database: Database) -> Pruned:
    pruned = Pruned()
    await prune(lambda since: database.one(PRUNE_KEYS, since=since), pruned)
    return pruned


async def resolved(client: httpx.AsyncClient, connection: Connection, tenant: UUID, ago: str) -> dict[str, Any]:
    alert = await create_alert(client, tenant)
    await transition(client, alert, "resolve")
    await connection.execute(OLDER, UUID(alert["id"]), ago)
    return alert


async def test_what_goes_and_what_stays(
    own_client: httpx.AsyncClient, database: Database, connection: Connection, tenant: UUID
) -> None:
    """What was resolved longer ago goes with its history; what is open, however old, and what is younger stays."""
    open_ones = [await create_alert(own_client, tenant) for _ in range(2)]
    await transition(own_client, open_ones[1], "acknowledge")
    await connection.execute("UPDATE alerts SET created_at = '2020-01-01', updated_at = '2020-01-01'")
    await connection.execute("UPDATE alerts SET acknowledged_at = '2020-01-01' WHERE acknowledged_at IS NOT NULL")
    young = [await resolved(own_client, connection, tenant, ago) for ago in ("1 day", "6 days 23:59:50")]
    old = [await resolved(own_client, connection, tenant, ago) for ago in ("7 days 00:00:01", "2000 days")]
    others = await resolved(own_client, connection, uuid4(), "8 days")
    assert await pruned_by(database) == (3, 6, 1)
    for alert in (*old, others):
        assert_error(await own_client.get(f"/alerts/{alert['id']}"), 404, "Alert not found")
        assert_error(await own_client.get(f"/alerts/{alert['id']}/history"), 404, "Alert not found")
    listed = (await own_client.get("/alerts", params={"tenant_id": str(tenant)})).json()
    assert {alert["id"] for alert in listed} == {alert["id"] for alert in (*young, *open_ones)}
    assert [len(await get_history(own_client, alert)) for alert in (*young, *open_ones)] == [2, 2, 1, 2]
    log = (await own_client.get("/history", params={"tenant_id": str(tenant)})).json()
    assert len(log) == 7
    counts = (await own_client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 4, "triggered": 1, "acknowledged": 1, "resolved": 2}
    assert (await own_client.get(f"/stats/{others['tenant_id']}")).json()["total"] == 0
    assert await pruned_by(database) == (0, 0, 0)


async def test_the_very_edge(database: Database, connection: Connection, tenant: UUID) -> None:
    """What was resolved exactly so many days ago is kept; a microsecond earlier is more than that."""
    transaction = connection.transaction()
    await transaction.start()  # in which now() stands still
    await connection.execute(RESOLVED, tenant, 1)
    sql = load_queries()[PRUNE.name].sql
    await connection.execute("UPDATE alerts SET resolved_at = now() - interval '7 days'")
    assert [record["alerts"] for record in await connection.fetch(sql, [7], [None], [9])] == [0]
    await connection.execute("UPDATE alerts SET resolved_at = resolved_at - interval '1 microsecond'")
    assert [record["alerts"] for record in await connection.fetch(sql, [7], [None], [9])] == [1]
    await transaction.rollback()
    assert await pruned_by(database) == (0, 0, 0)


async def test_two_at_once_share_the_work(
    database: Database, own_client: httpx.AsyncClient, connection: Connection, tenant: UUID, empty_database: str
) -> None:
    """Several that prune at the same time take batches of their own, delete each alert once, and count it once."""
    await connection.execute(RESOLVED, tenant, 6001)
    async with open_database(empty_database, pool_size=1, pool_timeout=2, statement_timeout=5) as other:
        found = await asyncio.gather(pruned_by(database), pruned_by(other))
    assert [sum(figures) for figures in list(zip(*found, strict=True))[:2]] == [6001, 12002]
    assert min(alerts for alerts, _, _ in found) > 0
    assert (await own_client.get(f"/stats/{tenant}")).json()["total"] == 0
    assert await connection.fetchval("SELECT count(*) FROM alert_events") == 0


async def test_what_somebody_holds_is_left_for_later(database: Database, connection: Connection, tenant: UUID) -> None:
    """An alert that is locked is skipped, at once and together with its events, and goes another time."""
    await connection.execute(RESOLVED, tenant, 700)
    async with connection.transaction():
        await connection.execute("SELECT FROM alerts ORDER BY resolved_at LIMIT 5 FOR UPDATE")
        assert (await pruned_by(database))[:2] == (695, 1390)
        assert await connection.fetchval("SELECT count(*) FROM alert_events") == 10
    assert await pruned_by(database) == (5, 10, 1)


async def test_nothing_is_lost_to_a_change_of_mind(
    database: Database, connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """An alert that is no longer resolved, or no longer so long ago, at the moment it would go stays."""
    await connection.execute(RESOLVED, tenant, 2)
    other = await asyncpg.connect(empty_database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE alerts SET status = 'triggered', resolved_at = NULL")
    assert await pruned_by(database) == (0, 0, 0)
    await transaction.commit()
    assert await pruned_by(database) == (0, 0, 0)
    await other.close()


async def test_creating_and_resolving_meanwhile(
    database: Database, own_client: httpx.AsyncClient, connection: Connection, tenant: UUID
) -> None:
    """While alerts are pruned, those of the same tenant are recorded and resolved, and all are counted right."""
    await connection.execute(RESOLVED, tenant, 5000)
    pruning = asyncio.create_task(pruned_by(database))
    alerts = await asyncio.gather(*(create_alert(own_client, tenant) for _ in range(300)))
    answers = await asyncio.gather(*(transition(own_client, alert, "resolve") for alert in alerts[:100]))
    assert {answer.status_code for answer in answers} == {200}
    assert (await pruning)[0] == 5000
    counts = (await own_client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 300, "triggered": 200, "acknowledged": 0, "resolved": 100}


async def test_the_command(tmp_path: Path, connection: Connection, empty_database: str, tenant: UUID) -> None:
    """`prune` says what it deleted, and with `--dry-run` what it would delete, in one line with the figures."""
    await connection.execute(RESOLVED, tenant, 1200)

    async def output(*arguments: str, **settings: str) -> str:
        ended = await asyncio.to_thread(run, tmp_path, "prune", *arguments, DATABASE_URL=empty_database, **settings)
        assert (ended.returncode, ended.stderr.count("\n")) == (0, 0), ended.stderr
        return ended.stdout

    await connection.execute(KEYS, tenant, 900)
    would = (
        "alerts to delete: 1200, events to delete: 2400 (retention in days: 5)\n"
        "expired idempotency keys to delete: 900\n"
    )
    assert await output("--dry-run", "--older-than", "5") == would
    assert await output("--dry-run", AS_ALERTS_RETENTION_DAYS="5") == would
    kept = (
        r"deleted alerts: 0, deleted events: 0 \(retention in days: 10, batches: 0, seconds: 0\.0\)\n"
        r"deleted expired idempotency keys: 900 \(batches: 2, seconds: \d+\.\d\)\n"
    )
    assert re.fullmatch(kept, await output("--older-than", "10", AS_ALERTS_RETENTION_DAYS="5"))
    assert await connection.fetchval("SELECT count(*) FROM alerts") == 1200
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 1
    done = (
        r"deleted alerts: 1200, deleted events: 2400 \(retention in days: 5, batches: 3, seconds: \d+\.\d\)\n"
        r"deleted expired idempotency keys: 0 \(batches: 0, seconds: 0\.0\)\n"
    )
    assert re.fullmatch(done, await output(AS_ALERTS_RETENTION_DAYS="5"))
    assert await connection.fetchval("SELECT count(*) FROM alerts") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("prune",), 1, "AS_ALERTS_RETENTION_DAYS: must be set"),
        (("prune", "--dry-run"), 1, "AS_ALERTS_RETENTION_DAYS: must be set"),
        (("prune", "--older-than", "0"), 1, "AS_ALERTS_RETENTION_DAYS: must be between 1 and 36500"),
        (("migrate", "--dry-run"), 2, "options of prune"),
        (("--older-than", "3"), 2, "options of prune"),
    ],
)
def test_a_command_that_cannot_be(tmp_path: Path, arguments: tuple[str, ...], code: int, complaint: str) -> None:
    """Nobody prunes without having said how old is old enough, and no other command takes prune's options."""
    ended = run(tmp_path, *arguments, DATABASE_URL="postgresql://127.0.0.1:1/d")
    assert ended.returncode == code
    assert complaint in ended.stderr.splitlines()[-1]


def about_pruning(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["logger"] == "alerts_service.retention.job"]


async def left(connection: Connection, count: int, table: str = "alerts") -> None:
    """Return when there are so many rows left."""
    for _ in range(500):
        if await connection.fetchval(f"SELECT count(*) FROM {table}") == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_service_prunes_by_itself(
    tmp_path: Path, connection: Connection, empty_database: str, tenant: UUID, workers: str
) -> None:
    """With the setting every process prunes while it serves, all share the work, and the log has the figures."""
    await connection.execute(RESOLVED, tenant, 1200)
    async with running_service(
        tmp_path, DATABASE_URL=empty_database, AS_ALERTS_RETENTION_DAYS="5", AS_ALERTS_WORKERS=workers
    ) as process:
        await left(connection, 0)
        async with httpx.AsyncClient(base_url=process.url, verify=False) as client:
            assert (await client.get(f"/stats/{tenant}")).json()["total"] == 0
        lines = about_pruning(await asyncio.to_thread(process.stop))
    assert process.process.returncode == 0
    assert sum(line["alerts"] for line in lines) == 1200
    assert sum(line["events"] for line in lines) == 2400
    assert sum(line["batches"] for line in lines) >= 3
    assert all((line["level"], line["message"]) == ("INFO", "Pruned resolved alerts") for line in lines)
    assert all(line["seconds"] > 0 for line in lines)


async def test_without_the_setting_nothing_goes(
    tmp_path: Path, connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """Without the setting the service keeps alerts for ever."""
    await connection.execute(RESOLVED, tenant, 10)
    await connection.execute(KEYS, tenant, 1)
    async with running_service(tmp_path, DATABASE_URL=empty_database) as process:
        await left(connection, 1, "idempotency_keys")
        lines = about_pruning(await asyncio.to_thread(process.stop))
    assert [line["message"] for line in lines] == ["Pruned expired idempotency keys"]
    assert await connection.fetchval("SELECT count(*) FROM alerts") == 10


async def test_a_stop_does_not_wait(tmp_path: Path, connection: Connection, empty_database: str, tenant: UUID) -> None:
    """A service that is told to stop while it prunes stops at once, and logs what went, but for the batch under way."""
    await connection.execute(RESOLVED, tenant, 40_000)
    async with running_service(tmp_path, DATABASE_URL=empty_database, AS_ALERTS_RETENTION_DAYS="5") as process:
        await asyncio.sleep(0.5)
        started = time.monotonic()
        (line,) = about_pruning(await asyncio.to_thread(process.stop))
        assert (process.process.returncode, time.monotonic() - started < 1.5) == (0, True)
    kept = await connection.fetchval("SELECT count(*) FROM alerts")
    assert 0 < kept < 40_000
    assert 40_000 - kept - line["alerts"] in {0, 500}
    assert await connection.fetchval("SELECT count(*) FROM alert_events") == 2 * kept


def about_us(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the service itself logged; asyncpg tells of its pool."""
    return [record for record in caplog.records if record.name.startswith("alerts_service")]


@not_pooled
async def test_a_database_that_is_away(
    server_url: str,
    empty_database: str,
    tenant: UUID,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A database that lets nobody in is said to be away once a round, and once it is back pruning goes on."""
    monkeypatch.setattr(retention, "PRUNE_INTERVAL_SECONDS", 0.3)
    caplog.set_level(logging.INFO, "alerts_service.retention.job")
    admin, name = await asyncpg.connect(server_url), urlsplit(empty_database).path[1:]
    async with ready_database(settings_for(database_url=empty_database)) as database:
        connection = await asyncpg.connect(empty_database)
        await connection.execute(RESOLVED, tenant, 10)
        await connection.close()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = $1", name)
        rounds = itertools.count()
        async with retention.pruning(7, lambda: (database, next(rounds))[0]):
            await asyncio.sleep(0.8)
            away = about_us(caplog)
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            assert 2 <= len(away) <= next(rounds)
            await asyncio.sleep(0.8)
    await admin.close()
    assert {record.levelname for record in away} == {"ERROR"}
    assert all(record.message == "database unreachable" for record in away)
    assert [record.message for record in about_us(caplog)[len(away) :]] == ["Pruned resolved alerts"]


@pytest.mark.parametrize(
    ("obstacle", "level", "complaint"),
    [
        ("LOCK TABLE alerts", "WARNING", "Pruning postponed"),
        ("ALTER TABLE alerts RENAME TO gone", "ERROR", "Pruning failed"),
    ],
)
async def test_what_keeps_it_from_pruning(
    database: Database,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tenant: UUID,
    obstacle: str,
    level: str,
    complaint: str,
) -> None:
    """Whatever keeps the database from pruning is logged, and the next round tries again."""
    monkeypatch.setattr(retention, "PRUNE_INTERVAL_SECONDS", 0.1)
    await connection.execute(RESOLVED, tenant, 10)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(obstacle)
    if "RENAME" in obstacle:
        await transaction.commit()
    async with retention.pruning(7, lambda: database):
        await asyncio.sleep(0.6)
        assert {(record.levelname, record.message) for record in about_us(caplog)} == {(level, complaint)}
        if "RENAME" in obstacle:
            await connection.execute("ALTER TABLE gone RENAME TO alerts")
        else:
            await transaction.rollback()
        await left(connection, 0)


async def test_a_role_that_may_not_delete(connection: Connection) -> None:
    """A role that may not delete alerts serves, unless they are to be pruned: then the start says what it lacks."""
    role = f"role_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role}")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    await connection.execute(f"GRANT DELETE ON idempotency_keys TO {role}")
    await connection.execute(f"SET ROLE {role}")
    await check_schema(connection, settings_for())
    with pytest.raises(StartupError, match=r"retention/prune\.sql: permission denied for table alert"):
        await check_schema(connection, settings_for(retention_days=7))
    await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_long_history_holds_nothing_up(connection: Connection, empty_database: str, tenant: UUID) -> None:
    """Alerts with more events than fit into a batch go too, but for those with far too many, and no other waits."""
    await connection.execute(RESOLVED, tenant, 3)
    await connection.execute(
        "INSERT INTO alert_events (alert_id, sequence, tenant_id, type, to_status, actor, occurred_at)"
        " SELECT id, n, tenant_id, 'repeated', 'triggered', 'anonymous', now()"
        " FROM (SELECT id, tenant_id FROM alerts LIMIT 1) AS one CROSS JOIN generate_series(3, 20000) AS n"
    )
    await connection.execute(
        "UPDATE alerts SET version = 20000, resolved_at = resolved_at - interval '1 day'"
        " WHERE id = (SELECT alert_id FROM alert_events WHERE sequence = 20000)"
    )
    batches = []
    async with ready_database(settings_for(database_url=empty_database)) as database:
        left = await database.one(retention.PRUNE, days=5, since=None, max_events=19_999)
        assert (left.alerts, left.events) == (2, 4)
        since = None
        while (batch := await database.one(retention.PRUNE, days=5, since=since, max_events=None)).alerts:
            batches.append((batch.alerts, batch.events))
            since = batch.until
    assert batches == [(1, 20_000)]


@pytest.mark.parametrize("days", [None, 7])
async def test_expired_keys_are_deleted(
    database: Database, connection: Connection, tenant: UUID, caplog: pytest.LogCaptureFixture, days: int | None
) -> None:
    """Expired keys are deleted whether or not keys are used or alerts pruned; valid and locked ones stay."""
    caplog.set_level(logging.INFO, "alerts_service.retention.job")
    await connection.execute(KEYS, tenant, 1200)
    async with connection.transaction():
        await connection.execute("SELECT FROM idempotency_keys WHERE key = '7' FOR UPDATE")
        async with retention.pruning(days, lambda: database):
            await left(connection, 2, "idempotency_keys")
    assert [row["key"] for row in await connection.fetch("SELECT key FROM idempotency_keys ORDER BY key")] == ["0", "7"]
    (record,) = about_us(caplog)
    assert record.message == "Pruned expired idempotency keys"
    assert (vars(record)["keys"], vars(record)["batches"]) == (1199, 3)


async def test_expired_keys_are_deleted_every_five_minutes(
    database: Database, connection: Connection, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retention.PRUNE_INTERVAL_SECONDS == 300
    monkeypatch.setattr(retention, "PRUNE_INTERVAL_SECONDS", 0.05)
    async with retention.pruning(None, lambda: database):
        for _ in range(2):
            await connection.execute("TRUNCATE idempotency_keys")
            await connection.execute(KEYS, tenant, 10)
            await left(connection, 1, "idempotency_keys")


async def test_two_processes_share_expired_keys(
    database: Database, connection: Connection, tenant: UUID, empty_database: str
) -> None:
    """Each deletes batches of its own, and each key is deleted once."""
    await connection.execute(KEYS, tenant, 12_000)
    async with open_database(empty_database, pool_size=1, pool_timeout=2, statement_timeout=5) as other:
        both = await asyncio.gather(keys_pruned_by(database), keys_pruned_by(other))
    assert sum(pruned.keys for pruned in both) == 12_000
    assert min(pruned.keys for pruned in both) > 0


async def test_large_stored_responses_are_deleted_in_small_batches(
    database: Database, connection: Connection, tenant: UUID
) -> None:
    """A batch ends with the key that brings it to 16 MB of stored responses."""
    await connection.execute(KEYS, tenant, 20)
    await connection.execute("UPDATE idempotency_keys SET body = decode(repeat('00', 4000000), 'hex')")
    pruned = await keys_pruned_by(database)
    assert (pruned.keys, pruned.batches) == (20, 5)
