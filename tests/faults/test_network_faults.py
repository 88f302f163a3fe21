"""The network between the service and PostgreSQL fails under load."""

import asyncio
import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.faults.load import Load, assert_failed_fast
from tests.faults.postgres import running_postgres
from tests.faults.report import ReportFault
from tests.faults.service import ResourceUsage
from tests.faults.tcp_proxy import tcp_proxy
from tests.support.api import assert_error
from tests.support.processes import running_service

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

RESETS = 10
PAUSES = 3
PAUSE_SECONDS = 4.0
POOL_TIMEOUT = 0.5
STATEMENT_TIMEOUT = 1.0

# The queue of the batcher, the wait for a connection and the statement time out in turn; one second for a busy machine.
MAX_LATENCY_SECONDS = POOL_TIMEOUT + POOL_TIMEOUT + STATEMENT_TIMEOUT + 1


async def test_changes_whose_responses_are_dropped_are_stored_at_most_once(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    """The connection is reset between the commit and its response: the request fails with outcome unknown."""
    with running_postgres() as database:
        async with (
            tcp_proxy(database.dsn) as proxy,
            running_service(tmp_path, DATABASE_URL=proxy.dsn) as service,
            Load(service.url) as load,
        ):
            await load.wait_for_successes(500)
            usage = ResourceUsage(service)
            for _ in range(RESETS):
                dropped_at = time.monotonic()
                proxy.drop_responses()
                await asyncio.sleep(0.3)
                proxy.resume()
                proxy.reset_connections()
                await load.wait_for_successes(100, seconds=5)
                assert_failed_fast(load.failed_since(dropped_at))
            usage.assert_not_grown()
        counts = await load.check(database.dsn)
        assert counts.committed_unknown >= RESETS
        report_fault("PostgreSQL's responses dropped, then connections closed", RESETS, counts)


async def test_requests_time_out_while_the_network_is_paused(tmp_path: Path, report_fault: ReportFault) -> None:
    """No request takes longer than the timeouts, and requests succeed once the network forwards again."""
    with running_postgres() as database:
        async with (
            tcp_proxy(database.dsn) as proxy,
            running_service(
                tmp_path,
                DATABASE_URL=proxy.dsn,
                AS_ALERTS_POOL_TIMEOUT=str(POOL_TIMEOUT),
                AS_ALERTS_STATEMENT_TIMEOUT=str(STATEMENT_TIMEOUT),
            ) as service,
            httpx.AsyncClient(base_url=service.url, verify=False) as client,
            Load(service.url) as load,
        ):
            await load.wait_for_successes(500)
            usage = ResourceUsage(service)
            for _ in range(PAUSES):
                paused_at = time.monotonic()
                proxy.pause()
                assert (await client.get("/health")).status_code == 503
                assert time.monotonic() - paused_at < 1.5
                await asyncio.sleep(PAUSE_SECONDS)
                proxy.resume()
                await load.wait_for_successes(100, seconds=5)
                assert (await client.get("/health")).status_code == 200
                statuses = {request.status for request in load.failed_since(paused_at)}
                assert statuses <= {500, 503}  # no connection, or no response in time
                assert max(request.latency for request in load.failed_since(paused_at)) < MAX_LATENCY_SECONDS
            usage.assert_not_grown()
        report_fault("no response from PostgreSQL for 4 s, connections open", PAUSES, await load.check(database.dsn))


async def test_statement_without_response_fails_after_the_statement_timeout(tmp_path: Path) -> None:
    """The request does not also wait for the cancellation of the statement."""
    body = {"tenant_id": str(uuid4()), "rule_name": "faults", "message": "Hello?"}
    with running_postgres() as database:
        async with (
            tcp_proxy(database.dsn) as proxy,
            running_service(
                tmp_path, DATABASE_URL=proxy.dsn, AS_ALERTS_STATEMENT_TIMEOUT=str(STATEMENT_TIMEOUT)
            ) as service,
            httpx.AsyncClient(base_url=service.url, verify=False) as client,
        ):
            proxy.pause()
            started_at = time.monotonic()
            response = await client.post("/alerts", json=body)
            assert STATEMENT_TIMEOUT - 0.1 < time.monotonic() - started_at < 2 * STATEMENT_TIMEOUT - 0.1
            assert_error(response, 503, "Service unavailable", "may still have been made")
            assert "retry-after" not in response.headers
            proxy.resume()
            assert (await client.post("/alerts", json=body)).status_code == 201
