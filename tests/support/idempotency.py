"""Requests with an Idempotency-Key, their responses, and what the database holds of them."""

from uuid import UUID

import httpx

from alerts_service.db.pool import Connection
from tests.support.api import SERVICE_KEY, alert_body

SERVICE_HEADERS = {"X-Service-Key": SERVICE_KEY}


async def create_with_key(client: httpx.AsyncClient, tenant: UUID, key: str) -> httpx.Response:
    return await client.post("/alerts", json=alert_body(tenant), headers={"Idempotency-Key": key})


def assert_replayed(first: httpx.Response, second: httpx.Response) -> None:
    """Assert that the second response is a replay of the first, with the same bytes."""
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers.get("etag") == first.headers.get("etag")
    assert second.headers["content-type"] == first.headers["content-type"]


async def count_rows(connection: Connection, tenant: UUID, table: str = "alerts") -> int:
    rows: int = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant)
    return rows


async def count_advisory_locks(connection: Connection) -> int:
    """Return the number of keys that are locked: one for each request with a key that is being executed."""
    locks: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
        " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
    )
    return locks
