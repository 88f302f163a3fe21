"""The network between the service and PostgreSQL fails under load."""

import asyncio
import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load, assert_failed_fast
from tests.faults.postgres import postgres
from tests.faults.relay import relay
from tests.faults.service import Weight, service
from tests.support.api import assert_error

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

TIMES = 10
SILENCES = 3
SILENCE_SECONDS = 4.0
POOL_TIMEOUT = 0.5
STATEMENT_TIMEOUT = 1.0

# To wait for a seat, for a connection, for the statement; and what a busy machine adds.
LONGEST_SECONDS = POOL_TIMEOUT + POOL_TIMEOUT + STATEMENT_TIMEOUT + 1


async def test_answers_that_never_arrive(tmp_path: Path, report: Report) -> None:
    """What was committed when the connection was cut before the answer is there once, and its caller is not misled."""
    with postgres() as database:
        async with (
            relay(database.dsn) as between,
            service(tmp_path, DATABASE_URL=between.dsn) as process,
            Load(process.url) as load,
        ):
            await load.wait_for_successes(500)
            weight = Weight(process)
            for _ in range(TIMES):
                swallowed = time.monotonic()
                between.swallow_answers()
                await asyncio.sleep(0.3)
                between.restore()
                between.cut()
                await load.wait_for_successes(100, seconds=5)
                assert_failed_fast(load.failed_since(swallowed))
            weight.assert_kept()
        figures = await load.check(database.dsn)
        assert figures.committed_unknown >= TIMES
        report("PostgreSQL's responses dropped, then connections closed", TIMES, figures)


async def test_silence(tmp_path: Path, report: Report) -> None:
    """When PostgreSQL falls silent no request takes longer than the timeouts, and all is well when it speaks again."""
    with postgres() as database:
        async with (
            relay(database.dsn) as between,
            service(
                tmp_path,
                DATABASE_URL=between.dsn,
                AS_ALERTS_POOL_TIMEOUT=str(POOL_TIMEOUT),
                AS_ALERTS_STATEMENT_TIMEOUT=str(STATEMENT_TIMEOUT),
            ) as process,
            httpx.AsyncClient(base_url=process.url, verify=False) as client,
            Load(process.url) as load,
        ):
            await load.wait_for_successes(500)
            weight = Weight(process)
            for _ in range(SILENCES):
                silent = time.monotonic()
                between.fall_silent()
                assert (await client.get("/health")).status_code == 503
                assert time.monotonic() - silent < 1.5
                await asyncio.sleep(SILENCE_SECONDS)
                between.restore()
                await load.wait_for_successes(100, seconds=5)
                assert (await client.get("/health")).status_code == 200
                statuses = {request.status for request in load.failed_since(silent)}
                assert statuses <= {500, 503}  # no connection, or no answer in time
                assert max(request.latency for request in load.failed_since(silent)) < LONGEST_SECONDS
            weight.assert_kept()
        report("no response from PostgreSQL for 4 s, connections open", SILENCES, await load.check(database.dsn))


async def test_a_lone_call_into_silence(tmp_path: Path) -> None:
    """Who had a connection waits for the statement's timeout, and not until the statement has been taken back."""
    body = {"tenant_id": str(uuid4()), "rule_name": "faults", "message": "Hello?"}
    with postgres() as database:
        async with (
            relay(database.dsn) as between,
            service(tmp_path, DATABASE_URL=between.dsn, AS_ALERTS_STATEMENT_TIMEOUT=str(STATEMENT_TIMEOUT)) as process,
            httpx.AsyncClient(base_url=process.url, verify=False) as client,
        ):
            between.fall_silent()
            started = time.monotonic()
            response = await client.post("/alerts", json=body)
            assert STATEMENT_TIMEOUT - 0.1 < time.monotonic() - started < 2 * STATEMENT_TIMEOUT - 0.1
            assert_error(response, 503, "Service unavailable", "it may still have been made")
            assert "retry-after" not in response.headers
            between.restore()
            assert (await client.post("/alerts", json=body)).status_code == 201
