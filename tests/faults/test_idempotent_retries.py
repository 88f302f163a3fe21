"""Clients send an `Idempotency-Key` with each change, and retry it until it succeeds, across faults."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.faults.load import Load
from tests.faults.postgres import running_postgres
from tests.faults.report import ReportFault
from tests.faults.tcp_proxy import tcp_proxy
from tests.support.processes import free_port, running_service

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

FAULTS = 5


@asynccontextmanager
async def retrying_clients(url: str) -> AsyncIterator[Load]:
    """Run clients that retry, and wait for successes before and after the block."""
    async with Load(url, retry=True) as load:
        await load.wait_for_successes(200)
        yield load
        await load.wait_for_successes(100)


async def test_retries_after_dropped_commit_responses_change_nothing_twice(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    """A retry of a committed change gets the stored response, and every request succeeds in the end."""
    with running_postgres() as database:
        async with tcp_proxy(database.dsn) as proxy, running_service(tmp_path, DATABASE_URL=proxy.dsn) as service:
            async with retrying_clients(service.url) as load:
                for _ in range(FAULTS):
                    proxy.drop_responses_after(b"COMMIT")
                    await asyncio.sleep(0.3)
                    proxy.resume()
                    proxy.reset_connections()
                    await load.wait_for_successes(100)
            assert load.retries >= load.replayed > 0
            assert load.count("succeeded") == len(load.requests)
        counts = await load.check(database.dsn)
        report_fault(
            "responses to COMMIT dropped, connections closed; requests retried with their idempotency keys",
            FAULTS,
            counts,
        )


async def test_retries_change_nothing_twice_when_the_database_is_killed(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    with running_postgres() as database:
        async with running_service(tmp_path, DATABASE_URL=database.dsn) as service:
            async with retrying_clients(service.url) as load:
                for _ in range(FAULTS):
                    await asyncio.to_thread(database.kill)
                    await asyncio.to_thread(database.start)
                    await load.wait_for_successes(100)
            assert load.retries > 0
        counts = await load.check(database.dsn)
        report_fault("PostgreSQL killed (`kill -9`); requests retried with their idempotency keys", FAULTS, counts)


async def test_retries_change_nothing_twice_when_the_service_is_killed(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    port = free_port()
    with running_postgres() as database:
        async with Load(f"http://127.0.0.1:{port}", retry=True) as load:
            for _ in range(FAULTS):
                async with running_service(tmp_path, port=port, DATABASE_URL=database.dsn) as service:
                    await load.wait_for_successes(100)
                    service.process.kill()
            async with running_service(tmp_path, port=port, DATABASE_URL=database.dsn):
                await load.wait_for_successes(100)
                await load.stop()
        assert load.retries > 0
        counts = await load.check(database.dsn)
        report_fault("service killed (`kill -9`); requests retried with their idempotency keys", FAULTS, counts)


async def test_response_is_replayed_when_the_service_was_killed_after_the_commit(tmp_path: Path) -> None:
    """The response is stored in the transaction of the change, so another process can replay it."""
    body, key = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}, {"Idempotency-Key": "a"}
    with running_postgres() as database:
        async with (
            tcp_proxy(database.dsn) as proxy,
            running_service(tmp_path, DATABASE_URL=proxy.dsn) as service,
            httpx.AsyncClient(base_url=service.url, verify=False) as client,
        ):
            proxy.drop_responses_after(b"COMMIT")
            request = asyncio.create_task(client.post("/alerts", json=body, headers=key))
            await wait_for_alert(database.dsn)
            service.process.kill()
            with pytest.raises(httpx.TransportError):
                await request
        async with (
            running_service(tmp_path, DATABASE_URL=database.dsn) as service,
            httpx.AsyncClient(base_url=service.url, verify=False) as client,
        ):
            retry = await client.post("/alerts", json=body, headers=key)
            assert (retry.status_code, retry.headers["idempotent-replayed"]) == (201, "true")
            assert (await client.get("/alerts", params={"tenant_id": body["tenant_id"]})).json() == [retry.json()]


async def wait_for_alert(dsn: str) -> None:
    """Wait until an alert is committed."""
    connection = await asyncpg.connect(dsn)
    while not await connection.fetchval("SELECT count(*) FROM alerts"):
        pass
    await connection.close()


async def test_timeout_of_commit_is_answered_without_retry_after(tmp_path: Path) -> None:
    """A COMMIT without response leaves the outcome unknown; a BEGIN without response is rejected with `Retry-After`."""
    body, key = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}, {"Idempotency-Key": "a"}
    with running_postgres() as database:
        async with (
            tcp_proxy(database.dsn) as proxy,
            running_service(tmp_path, DATABASE_URL=proxy.dsn, AS_ALERTS_STATEMENT_TIMEOUT="0.5") as service,
            httpx.AsyncClient(base_url=service.url, verify=False) as client,
        ):
            for marker, retry_after, detail in (
                (b"BEGIN", True, "timed out"),
                (b"COMMIT", False, "may still have"),
            ):
                proxy.drop_responses_after(marker)
                response = await client.post("/alerts", json=body, headers=key)
                assert (response.status_code, "retry-after" in response.headers) == (503, retry_after)
                assert detail in response.json()["detail"]
                proxy.resume()
                proxy.reset_connections()
            retry = await client.post("/alerts", json=body, headers=key)
            assert (retry.status_code, retry.headers["idempotent-replayed"]) == (201, "true")


async def test_transaction_of_a_suspended_service_is_rolled_back(tmp_path: Path) -> None:
    """Its locks are released while the process is suspended, and its request fails when the process resumes."""
    body, key = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}, {"Idempotency-Key": "a"}
    with running_postgres() as database:
        async with (
            running_service(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_POOL_SIZE="1") as service,
            httpx.AsyncClient(base_url=service.url, verify=False) as client,
        ):
            await client.post("/alerts", json=body, headers={"Idempotency-Key": "b"})  # prepares the statements
            connection = await asyncpg.connect(database.dsn)
            await connection.execute("BEGIN; LOCK TABLE alert_counts IN EXCLUSIVE MODE")
            request = asyncio.create_task(client.post("/alerts", json=body, headers=key, timeout=20))
            while not await has_lock_waiters(connection):
                pass
            service.process.send_signal(signal.SIGSTOP)
            await connection.execute("COMMIT")
            await asyncio.sleep(6)
            advisory_locks = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            service.process.send_signal(signal.SIGCONT)
            assert advisory_locks == 0
            assert (await request).status_code in {500, 503}
            assert (await client.post("/alerts", json=body, headers=key)).status_code == 201
            assert await connection.fetchval("SELECT count(*) FROM alerts") == 2
            await connection.close()


async def has_lock_waiters(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
