"""Callers that give each change a key, and repeat it until it is answered, whatever happens meanwhile."""

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

from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.postgres import postgres
from tests.faults.relay import relay
from tests.faults.service import service
from tests.support.processes import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

TIMES = 5


@asynccontextmanager
async def insisting(url: str) -> AsyncIterator[Load]:
    async with Load(url, retry=True) as load:
        await load.wait_for_successes(200)
        yield load
        await load.wait_for_successes(100)


def assert_repeated(load: Load) -> None:
    """Some had to be retries, some of them only because the answer was lost, and all were answered in the end."""
    assert load.retries >= load.replayed > 0
    assert load.count("succeeded") == len(load.requests)


async def test_answers_that_never_arrive(tmp_path: Path, report: Report) -> None:
    """What was committed without its caller hearing of it is not done again, and the caller hears of it in the end."""
    with postgres() as database:
        async with relay(database.dsn) as between, service(tmp_path, DATABASE_URL=between.dsn) as process:
            async with insisting(process.url) as load:
                for _ in range(TIMES):
                    between.swallow_from(b"COMMIT")
                    await asyncio.sleep(0.3)
                    between.restore()
                    between.cut()
                    await load.wait_for_successes(100)
            assert_repeated(load)
        figures = await load.check(database.dsn)
        report(
            "responses to COMMIT dropped, connections closed; requests retried with their idempotency keys",
            TIMES,
            figures,
        )


async def test_a_killed_database(tmp_path: Path, report: Report) -> None:
    """However often PostgreSQL is killed, each key ends as one change."""
    with postgres() as database:
        async with service(tmp_path, DATABASE_URL=database.dsn) as process:
            async with insisting(process.url) as load:
                for _ in range(TIMES):
                    await asyncio.to_thread(database.kill)
                    await asyncio.to_thread(database.start)
                    await load.wait_for_successes(100)
            assert load.retries > 0
        figures = await load.check(database.dsn)
        report("PostgreSQL killed (`kill -9`); requests retried with their idempotency keys", TIMES, figures)


async def test_a_killed_service(tmp_path: Path, report: Report) -> None:
    """However often the service is killed, each key ends as one change."""
    port = free_port()
    with postgres() as database:
        async with Load(f"http://127.0.0.1:{port}", retry=True) as load:
            for _ in range(TIMES):
                async with service(tmp_path, port=port, DATABASE_URL=database.dsn) as process:
                    await load.wait_for_successes(100)
                    process.process.kill()
            async with service(tmp_path, port=port, DATABASE_URL=database.dsn):
                await load.wait_for_successes(100)
                await load.stop()
        assert load.retries > 0
        figures = await load.check(database.dsn)
        report("service killed (`kill -9`); requests retried with their idempotency keys", TIMES, figures)


async def test_killed_between_commit_and_answer(tmp_path: Path) -> None:
    """A service that is killed when the change is committed and nobody was told leaves an answer for who asks again."""
    body, key = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}, {"Idempotency-Key": "a"}
    with postgres() as database:
        async with (
            relay(database.dsn) as between,
            service(tmp_path, DATABASE_URL=between.dsn) as process,
            httpx.AsyncClient(base_url=process.url, verify=False) as client,
        ):
            between.swallow_from(b"COMMIT")
            asked = asyncio.create_task(client.post("/alerts", json=body, headers=key))
            await committed(database.dsn)
            process.process.kill()
            with pytest.raises(httpx.TransportError):
                await asked
        async with (
            service(tmp_path, DATABASE_URL=database.dsn) as process,
            httpx.AsyncClient(base_url=process.url, verify=False) as client,
        ):
            again = await client.post("/alerts", json=body, headers=key)
            assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
            assert (await client.get("/alerts", params={"tenant_id": body["tenant_id"]})).json() == [again.json()]


async def committed(dsn: str) -> None:
    """Return when an alert is there."""
    connection = await asyncpg.connect(dsn)
    while not await connection.fetchval("SELECT count(*) FROM alerts"):
        pass
    await connection.close()


async def test_a_commit_into_silence(tmp_path: Path) -> None:
    """Who waits for a COMMIT in vain is not asked to come again, but may with the key; earlier nothing was done."""
    body, key = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}, {"Idempotency-Key": "a"}
    with postgres() as database:
        async with (
            relay(database.dsn) as between,
            service(tmp_path, DATABASE_URL=between.dsn, AS_ALERTS_STATEMENT_TIMEOUT="0.5") as process,
            httpx.AsyncClient(base_url=process.url, verify=False) as client,
        ):
            for words, retry, detail in ((b"BEGIN", True, "not done in time"), (b"COMMIT", False, "may still have")):
                between.swallow_from(words)
                response = await client.post("/alerts", json=body, headers=key)
                assert (response.status_code, "retry-after" in response.headers) == (503, retry)
                assert detail in response.json()["detail"]
                between.restore()
                between.cut()
            again = await client.post("/alerts", json=body, headers=key)
            assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")


async def test_a_service_that_vanishes(tmp_path: Path) -> None:
    """A process that goes silent in the middle of a change holds nobody up for long, and learns that it is too late."""
    body, key = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}, {"Idempotency-Key": "a"}
    with postgres() as database:
        async with (
            service(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_POOL_SIZE="1") as process,
            httpx.AsyncClient(base_url=process.url, verify=False) as client,
        ):
            await client.post("/alerts", json=body, headers={"Idempotency-Key": "b"})  # which prepares the statements
            connection = await asyncpg.connect(database.dsn)
            await connection.execute("BEGIN; LOCK TABLE alert_counts IN EXCLUSIVE MODE")
            asked = asyncio.create_task(client.post("/alerts", json=body, headers=key, timeout=20))
            while not await waits(connection):
                pass
            process.process.send_signal(signal.SIGSTOP)
            await connection.execute("COMMIT")
            await asyncio.sleep(6)
            held = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            process.process.send_signal(signal.SIGCONT)
            assert held == 0
            assert (await asked).status_code in {500, 503}
            assert (await client.post("/alerts", json=body, headers=key)).status_code == 201
            assert await connection.fetchval("SELECT count(*) FROM alerts") == 2
            await connection.close()


async def waits(connection: Any) -> bool:
    """Whether somebody waits for a lock."""
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
