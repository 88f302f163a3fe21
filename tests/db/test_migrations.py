"""Migrations: empty and existing databases, concurrent starts, edited files, failures and restricted roles."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from alerts_service.app import create_app
from alerts_service.db import queries
from alerts_service.db.migrations import load_migrations, migrate, pending
from alerts_service.errors import StartupError
from tests.support.api import client_for, create_alert, transition
from tests.support.database import settings_for

pytestmark = pytest.mark.anyio

README = Path(__file__).parents[2] / "sql" / "README.md"

# Copied from the specification.
SPECIFIED_TABLE = """
CREATE TABLE alerts (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id UUID NOT NULL,
  rule_name VARCHAR(255),
  message TEXT NOT NULL,
  severity VARCHAR(50) DEFAULT 'medium',
  status VARCHAR(50) DEFAULT 'triggered',
  created_at TIMESTAMP DEFAULT NOW(),
  updated_at TIMESTAMP DEFAULT NOW(),
  acknowledged_at TIMESTAMP NULL,
  acknowledgment_note TEXT NULL,
  resolved_at TIMESTAMP NULL,
  resolution_note TEXT NULL
);

CREATE INDEX idx_alerts_tenant_id ON alerts(tenant_id);
CREATE INDEX idx_alerts_status ON alerts(status);
CREATE INDEX idx_alerts_created_at ON alerts(created_at);
"""
TENANT = "123e4567-e89b-12d3-a456-426614174000"
OTHER_TENANT = "123e4567-e89b-12d3-a456-426614174001"


async def test_an_empty_database_receives_all_migrations_once(empty_database: str) -> None:
    """The table has the indexes of the specification by their names, and those of the service."""
    connection = await asyncpg.connect(empty_database)
    assert [migration.version for migration in await migrate(connection)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert await migrate(connection) == []
    indexes = await connection.fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'alerts' ORDER BY 1")
    assert [row["indexname"] for row in indexes] == [
        "alerts_pkey",
        "idx_alerts_created_at",
        "idx_alerts_dedup_key",
        "idx_alerts_resolved_at",
        "idx_alerts_rule_name",
        "idx_alerts_status",
        "idx_alerts_tenant_id",
    ]
    await connection.close()


async def set_in_sessions(server_url: str, database_url: str, setting: str, value: str) -> None:
    """Give a setting to every new session of a database, and end the present ones."""
    admin = await asyncpg.connect(server_url)
    name = urlsplit(database_url).path[1:]
    await admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    await admin.execute("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = $1", name)
    await admin.close()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
async def test_an_existing_table_of_the_specification_is_adopted(
    server_url: str, empty_database: str, zone: str
) -> None:
    """Rows are kept. Times without a zone are those of the server, and nulls and contradictory rows are corrected."""
    await set_in_sessions(server_url, empty_database, "timezone", zone)
    connection = await asyncpg.connect(empty_database)
    await connection.execute(SPECIFIED_TABLE)
    await connection.execute(f"INSERT INTO alerts (tenant_id, rule_name, message) VALUES ('{TENANT}', 'new', 'm')")
    await connection.execute(
        f"""
        INSERT INTO alerts (tenant_id, rule_name, message, severity, status, created_at, updated_at, acknowledged_at)
        VALUES ('{TENANT}', NULL, 'old', NULL, NULL, '2024-07-01 12:00', NULL, '2024-07-01 13:00')
        """
    )
    contradictory_rows = (
        f"INSERT INTO alerts (tenant_id, rule_name, message, status, created_at, resolved_at) VALUES "
        f"('{OTHER_TENANT}', 'r', 'm', 'acknowledged', '2024-01-03', NULL), "
        f"('{OTHER_TENANT}', 'r', 'm', 'resolved', '2024-01-02', NULL), "
        f"('{OTHER_TENANT}', 'r', 'm', 'triggered', '2024-01-01', '2024-07-01 13:00')"
    )
    await connection.execute(contradictory_rows)
    noon = await connection.fetchval("SELECT '2024-07-01 12:00'::timestamptz AT TIME ZONE 'UTC'")
    now = await connection.fetchval("SELECT now()")
    await connection.close()

    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        counts = (await client.get(f"/stats/{TENANT}")).json()
        assert counts == {"total": 2, "triggered": 1, "acknowledged": 1, "resolved": 0}
        new, old = (await client.get("/alerts", params={"tenant_id": TENANT})).json()
        assert old["created_at"] == noon.isoformat() + "+00:00"
        assert (old["rule_name"], old["severity"], old["status"]) == ("", "medium", "acknowledged")
        assert old["updated_at"] == old["acknowledged_at"] > old["created_at"]
        assert new["created_at"][:16] == now.isoformat()[:16]
        assert (await client.put(f"/alerts/{old['id']}/resolve")).status_code == 200
        events = (await client.get(f"/alerts/{old['id']}/history")).json()
        assert [(event["type"], event["actor"], event["sequence"]) for event in events] == [
            ("created", "unknown", 1),
            ("acknowledged", "unknown", 2),
            ("resolved", "anonymous", 3),
        ]
        assert [event["occurred_at"] for event in events[:2]] == [old["created_at"], old["acknowledged_at"]]
        others = (await client.get("/alerts", params={"tenant_id": OTHER_TENANT})).json()
        assert [alert["status"] for alert in others] == ["acknowledged", "resolved", "resolved"]
        assert others[0]["acknowledged_at"] == others[0]["updated_at"]
        assert others[1]["resolved_at"] == others[1]["updated_at"]
        resolutions = (await client.get("/history", params={"tenant_id": OTHER_TENANT, "type": "resolved"})).json()
        assert [(event["sequence"], event["from_status"]) for event in resolutions] == [(2, "triggered")] * 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alerts SET severity = 'urgent'",
        "UPDATE alerts SET status = 'open'",
        "UPDATE alerts SET status = NULL",
        "UPDATE alerts SET created_at = NULL",
        "UPDATE alerts SET status = 'resolved'",
        "UPDATE alerts SET acknowledged_at = now()",
    ],
)
async def test_constraints_reject_invalid_alerts(empty_database: str, change: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    await connection.execute(f"INSERT INTO alerts (tenant_id, rule_name, message) VALUES ('{TENANT}', 'r', 'm')")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await connection.execute(change)
    await connection.close()


async def test_concurrent_starts_apply_each_migration_once(empty_database: str) -> None:
    connections = [await asyncpg.connect(empty_database) for _ in range(10)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    assert sorted(len(migrations) for migrations in applied) == [0] * 9 + [len(load_migrations())]
    for connection in connections:
        await connection.close()


@pytest.fixture
def migrations_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of migrations that a test may change."""
    monkeypatch.setattr("alerts_service.db.migrations.sql_directory", lambda: tmp_path)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_first.sql").write_text("CREATE TABLE first (id integer)")
    return tmp_path / "migrations"


async def test_a_migration_that_was_changed_after_it_was_applied_stops_the_start(
    empty_database: str, migrations_folder: Path
) -> None:
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    (migrations_folder / "0001_first.sql").write_text("CREATE TABLE other (id integer)")
    with pytest.raises(StartupError, match=r"0001_first\.sql was changed after it had been applied"):
        await migrate(connection)
    await connection.close()


async def test_no_migration_is_applied_when_one_fails(empty_database: str, migrations_folder: Path) -> None:
    (migrations_folder / "0002_second.sql").write_text("CREATE TABLE second (id integer); SELECT 1 / 0")
    connection = await asyncpg.connect(empty_database)
    with pytest.raises(StartupError, match="division by zero"):
        await migrate(connection)
    assert len(await pending(connection)) == 2
    assert await connection.fetchval("SELECT to_regclass('first')") is None
    await connection.close()


async def test_the_documented_grants_suffice_for_a_role_that_cannot_migrate(
    server_url: str, empty_database: str, tenant: UUID
) -> None:
    """The grants are those of sql/README.md. The schema is up to date."""
    grants = re.findall(r"`(GRANT [^`]* TO) …`", README.read_text())
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    role = f"role_{tenant.hex}"
    await connection.execute(f"CREATE ROLE {role}; " + "; ".join(f"{grant} {role}" for grant in grants))
    await connection.close()
    await set_in_sessions(server_url, empty_database, "role", role)
    app = create_app(settings_for(database_url=empty_database))
    async with app.lifespan(), client_for(app) as client:
        alert = await create_alert(client, tenant)
        assert (await transition(client, alert, "acknowledge")).status_code == 200
        key = {"Idempotency-Key": "a"}
        assert (await client.put(f"/alerts/{alert['id']}/resolve", headers=key)).status_code == 200
        assert (await client.get(f"/stats/{tenant}")).json()["resolved"] == 1
        assert (await client.get("/health")).status_code == 200
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"SET ROLE none; DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()


def test_a_missing_sql_folder_is_reported_with_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(queries, "__file__", str(tmp_path / "package" / "db" / "queries.py"))
    with pytest.raises(StartupError, match=str(tmp_path / "package" / "sql")):
        queries.load_queries()
