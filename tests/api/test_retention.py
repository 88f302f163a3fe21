"""Retention: which alerts and idempotency keys are deleted, in which batches, and the command that deletes them."""

import asyncio
import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.bootstrap import check_schema, ready_database
from alerts_service.db.database import Database
from alerts_service.db.pool import Connection
from alerts_service.db.queries import load_queries
from alerts_service.errors import StartupError
from alerts_service.retention.job import PRUNE, PRUNE_KEYS, Pruned, prune
from tests.support.api import assert_error, create_alert, get_history, transition
from tests.support.database import open_database, settings_for
from tests.support.processes import run
from tests.support.retention import INSERT_KEYS, INSERT_RESOLVED

pytestmark = pytest.mark.anyio


async def prune_alerts(database: Database) -> tuple[int, int, int]:
    """Delete alerts that were resolved more than seven days ago. Return the alerts, events and batches."""
    pruned = Pruned()
    await prune(lambda since: database.one(PRUNE, days=7, since=since, max_events=None), pruned)
    return pruned.alerts, pruned.events, pruned.batches


async def prune_keys(database: Database) -> Pruned:
    pruned = Pruned()
    await prune(lambda since: database.one(PRUNE_KEYS, since=since), pruned)
    return pruned


async def create_resolved(client: httpx.AsyncClient, connection: Connection, tenant: UUID, age: str) -> dict[str, Any]:
    """Create an alert that was resolved so long ago."""
    alert = await create_alert(client, tenant)
    await transition(client, alert, "resolve")
    sql = "UPDATE alerts SET resolved_at = now() - $2::text::interval WHERE id = $1"
    await connection.execute(sql, UUID(alert["id"]), age)
    return alert


async def test_old_resolved_alerts_are_deleted_with_their_history(
    own_client: httpx.AsyncClient, own_database: Database, own_connection: Connection, tenant: UUID
) -> None:
    """Open alerts of any age and alerts that were resolved later stay. The counts agree."""
    unresolved = [await create_alert(own_client, tenant) for _ in range(2)]
    await transition(own_client, unresolved[1], "acknowledge")
    await own_connection.execute("UPDATE alerts SET created_at = '2020-01-01', updated_at = '2020-01-01'")
    await own_connection.execute("UPDATE alerts SET acknowledged_at = '2020-01-01' WHERE acknowledged_at IS NOT NULL")
    recent = [await create_resolved(own_client, own_connection, tenant, age) for age in ("1 day", "6 days 23:59:50")]
    old = [await create_resolved(own_client, own_connection, tenant, age) for age in ("7 days 00:00:01", "2000 days")]
    foreign = await create_resolved(own_client, own_connection, uuid4(), "8 days")
    assert await prune_alerts(own_database) == (3, 6, 1)
    for alert in (*old, foreign):
        assert_error(await own_client.get(f"/alerts/{alert['id']}"), 404, "Alert not found")
        assert_error(await own_client.get(f"/alerts/{alert['id']}/history"), 404, "Alert not found")
    listed = (await own_client.get("/alerts", params={"tenant_id": str(tenant)})).json()
    assert {alert["id"] for alert in listed} == {alert["id"] for alert in (*recent, *unresolved)}
    assert [len(await get_history(own_client, alert)) for alert in (*recent, *unresolved)] == [2, 2, 1, 2]
    tenant_history = (await own_client.get("/history", params={"tenant_id": str(tenant)})).json()
    assert len(tenant_history) == 7
    counts = (await own_client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 4, "triggered": 1, "acknowledged": 1, "resolved": 2}
    assert (await own_client.get(f"/stats/{foreign['tenant_id']}")).json()["total"] == 0
    assert await prune_alerts(own_database) == (0, 0, 0)


async def test_an_alert_expires_one_microsecond_after_the_retention_period(
    own_database: Database, own_connection: Connection, tenant: UUID
) -> None:
    transaction = own_connection.transaction()
    await transaction.start()  # now() is constant in a transaction
    await own_connection.execute(INSERT_RESOLVED, tenant, 1)
    sql = load_queries()[PRUNE.name].sql
    await own_connection.execute("UPDATE alerts SET resolved_at = now() - interval '7 days'")
    assert [record["alerts"] for record in await own_connection.fetch(sql, [7], [None], [9])] == [0]
    await own_connection.execute("UPDATE alerts SET resolved_at = resolved_at - interval '1 microsecond'")
    assert [record["alerts"] for record in await own_connection.fetch(sql, [7], [None], [9])] == [1]
    await transaction.rollback()
    assert await prune_alerts(own_database) == (0, 0, 0)


async def test_concurrent_runs_delete_and_count_each_alert_once(
    own_database: Database,
    own_client: httpx.AsyncClient,
    own_connection: Connection,
    tenant: UUID,
    empty_database: str,
) -> None:
    """Each run deletes batches of its own."""
    await own_connection.execute(INSERT_RESOLVED, tenant, 6001)
    async with open_database(empty_database, pool_size=1, pool_timeout=2, statement_timeout=5) as other_database:
        totals = await asyncio.gather(prune_alerts(own_database), prune_alerts(other_database))
    assert sum(alerts for alerts, _, _ in totals) == 6001
    assert sum(events for _, events, _ in totals) == 12002
    assert min(alerts for alerts, _, _ in totals) > 0
    assert (await own_client.get(f"/stats/{tenant}")).json()["total"] == 0
    assert await own_connection.fetchval("SELECT count(*) FROM alert_events") == 0


async def test_locked_alerts_are_skipped_and_deleted_by_a_later_run(
    own_database: Database, own_connection: Connection, tenant: UUID
) -> None:
    await own_connection.execute(INSERT_RESOLVED, tenant, 700)
    async with own_connection.transaction():
        await own_connection.execute("SELECT FROM alerts ORDER BY resolved_at LIMIT 5 FOR UPDATE")
        assert (await prune_alerts(own_database))[:2] == (695, 1390)
        assert await own_connection.fetchval("SELECT count(*) FROM alert_events") == 10
    assert await prune_alerts(own_database) == (5, 10, 1)


async def test_an_alert_that_is_reopened_by_a_concurrent_transaction_is_not_deleted(
    own_database: Database, own_connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """The alert is skipped while the transaction holds its lock, and after the commit."""
    await own_connection.execute(INSERT_RESOLVED, tenant, 2)
    other_connection = await asyncpg.connect(empty_database)
    transaction = other_connection.transaction()
    await transaction.start()
    await other_connection.execute("UPDATE alerts SET status = 'triggered', resolved_at = NULL")
    assert await prune_alerts(own_database) == (0, 0, 0)
    await transaction.commit()
    assert await prune_alerts(own_database) == (0, 0, 0)
    await other_connection.close()
    assert await own_connection.fetchval("SELECT count(*) FROM alerts") == 2


async def test_creates_and_transitions_during_a_run_succeed_and_are_counted(
    own_database: Database, own_client: httpx.AsyncClient, own_connection: Connection, tenant: UUID
) -> None:
    await own_connection.execute(INSERT_RESOLVED, tenant, 5000)
    pruning = asyncio.create_task(prune_alerts(own_database))
    alerts = await asyncio.gather(*(create_alert(own_client, tenant) for _ in range(300)))
    responses = await asyncio.gather(*(transition(own_client, alert, "resolve") for alert in alerts[:100]))
    assert {response.status_code for response in responses} == {200}
    assert (await pruning)[0] == 5000
    counts = (await own_client.get(f"/stats/{tenant}")).json()
    assert counts == {"total": 300, "triggered": 200, "acknowledged": 0, "resolved": 100}


async def test_an_alert_with_more_events_than_a_batch_is_deleted_unless_it_exceeds_the_limit(
    own_connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """An alert over the limit does not prevent the deletion of the others."""
    await own_connection.execute(INSERT_RESOLVED, tenant, 3)
    await own_connection.execute(
        "INSERT INTO alert_events (alert_id, sequence, tenant_id, type, to_status, actor, occurred_at)"
        " SELECT id, n, tenant_id, 'repeated', 'triggered', 'anonymous', now()"
        " FROM (SELECT id, tenant_id FROM alerts LIMIT 1) AS one CROSS JOIN generate_series(3, 20000) AS n"
    )
    await own_connection.execute(
        "UPDATE alerts SET version = 20000, resolved_at = resolved_at - interval '1 day'"
        " WHERE id = (SELECT alert_id FROM alert_events WHERE sequence = 20000)"
    )
    batches = []
    async with ready_database(settings_for(database_url=empty_database)) as database:
        limited = await database.one(PRUNE, days=5, since=None, max_events=19_999)
        assert (limited.alerts, limited.events) == (2, 4)
        since = None
        while (batch := await database.one(PRUNE, days=5, since=since, max_events=None)).alerts:
            batches.append((batch.alerts, batch.events))
            since = batch.until
    assert batches == [(1, 20_000)]


async def test_concurrent_runs_delete_each_expired_key_once(
    own_database: Database, own_connection: Connection, tenant: UUID, empty_database: str
) -> None:
    """Each run deletes batches of its own."""
    await own_connection.execute(INSERT_KEYS, tenant, 12_000)
    async with open_database(empty_database, pool_size=1, pool_timeout=2, statement_timeout=5) as other_database:
        totals = await asyncio.gather(prune_keys(own_database), prune_keys(other_database))
    assert sum(pruned.keys for pruned in totals) == 12_000
    assert min(pruned.keys for pruned in totals) > 0


async def test_large_stored_responses_are_deleted_in_small_batches(
    own_database: Database, own_connection: Connection, tenant: UUID
) -> None:
    """A batch ends with the key that brings it to 16 MB of stored responses."""
    await own_connection.execute(INSERT_KEYS, tenant, 20)
    await own_connection.execute("UPDATE idempotency_keys SET body = decode(repeat('00', 4000000), 'hex')")
    pruned = await prune_keys(own_database)
    assert (pruned.keys, pruned.batches) == (20, 5)


async def test_the_prune_command_prints_what_it_deletes_or_would_delete(
    tmp_path: Path, own_connection: Connection, empty_database: str, tenant: UUID
) -> None:
    """The option `--older-than` overrides the setting."""
    await own_connection.execute(INSERT_RESOLVED, tenant, 1200)
    await own_connection.execute(INSERT_KEYS, tenant, 900)

    async def output(*arguments: str, **settings: str) -> str:
        result = await asyncio.to_thread(run, tmp_path, "prune", *arguments, DATABASE_URL=empty_database, **settings)
        assert (result.returncode, result.stderr.count("\n")) == (0, 0), result.stderr
        return result.stdout

    dry_run = (
        "alerts to delete: 1200, events to delete: 2400 (retention in days: 5)\n"
        "expired idempotency keys to delete: 900\n"
    )
    assert await output("--dry-run", "--older-than", "5") == dry_run
    assert await output("--dry-run", AS_ALERTS_RETENTION_DAYS="5") == dry_run
    keys_only = (
        r"deleted alerts: 0, deleted events: 0 \(retention in days: 10, batches: 0, seconds: 0\.0\)\n"
        r"deleted expired idempotency keys: 900 \(batches: 2, seconds: \d+\.\d\)\n"
    )
    assert re.fullmatch(keys_only, await output("--older-than", "10", AS_ALERTS_RETENTION_DAYS="5"))
    assert await own_connection.fetchval("SELECT count(*) FROM alerts") == 1200
    assert await own_connection.fetchval("SELECT count(*) FROM idempotency_keys") == 1
    alerts_only = (
        r"deleted alerts: 1200, deleted events: 2400 \(retention in days: 5, batches: 3, seconds: \d+\.\d\)\n"
        r"deleted expired idempotency keys: 0 \(batches: 0, seconds: 0\.0\)\n"
    )
    assert re.fullmatch(alerts_only, await output(AS_ALERTS_RETENTION_DAYS="5"))
    assert await own_connection.fetchval("SELECT count(*) FROM alerts") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("prune",), 1, "AS_ALERTS_RETENTION_DAYS: must be set"),
        (("prune", "--dry-run"), 1, "AS_ALERTS_RETENTION_DAYS: must be set"),
        (("prune", "--older-than", "0"), 1, "AS_ALERTS_RETENTION_DAYS: must be between 1 and 36500"),
        (("migrate", "--dry-run"), 2, "options of prune"),
        (("--older-than", "3"), 2, "options of prune"),
    ],
)
def test_prune_requires_a_retention_period_and_other_commands_reject_its_options(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run(tmp_path, *arguments, DATABASE_URL="postgresql://127.0.0.1:1/d")
    assert result.returncode == code
    assert message in result.stderr.splitlines()[-1]


async def test_the_schema_check_requires_delete_permission_only_with_a_retention_period(
    own_connection: Connection,
) -> None:
    role = f"role_{uuid4().hex}"
    await own_connection.execute(f"CREATE ROLE {role}")
    await own_connection.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    await own_connection.execute(f"GRANT DELETE ON idempotency_keys TO {role}")
    await own_connection.execute(f"SET ROLE {role}")
    await check_schema(own_connection, settings_for())
    with pytest.raises(StartupError, match=r"retention/prune\.sql: permission denied for table alert"):
        await check_schema(own_connection, settings_for(retention_days=7))
    await own_connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
