"""One tenant sends as much load as it can; the latency and success rate of another tenant are measured."""

import asyncio
import json
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec import Struct

from tests.faults.postgres import Postgres, running_postgres
from tests.faults.report import ReportLatency
from tests.faults.service import port_of
from tests.support.processes import ServiceProcess, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

ROUNDS, ROUND_SECONDS, PAUSE_SECONDS = 3, 3.0, 0.01
CLIENTS = 4
NOISE_MARGIN = 2
LARGE_TEXT = "\U00010400" * 10_000  # 40 kB

# NUMBER is replaced by the number of the request, so that the service cannot answer two requests with one query.
WRK_SCRIPT = """
local number = 0
request = function()
    number = number + 1
    local fill = function(text) return (string.gsub(text, "NUMBER", tostring(number))) end
    local headers = {["Content-Type"] = "application/json"}
    if [[%(key)s]] ~= "" then headers["Idempotency-Key"] = fill("%(key)s") end
    return wrk.format("%(method)s", fill([[%(target)s]]), headers, fill([[%(body)s]]))
end
"""


class NoisyLoad(Struct):
    """The requests of the noisy tenant, and the number of connections that repeat them. `key`: idempotency key."""

    title: str
    connections: int
    target: str
    method: str = "GET"
    body: str = ""
    key: str = ""


class OtherTenant:
    """Clients of a tenant that create, get, list and search alerts, and the latencies in seconds by operation."""

    def __init__(self, service: ServiceProcess) -> None:
        self._port, self._tenant = port_of(service), uuid4()
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.failed: list[bytes] = []

    async def send_requests(self, seconds: float = ROUND_SECONDS) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._run_client(end) for _ in range(CLIENTS)))

    def p99(self, operation: str) -> float:
        return statistics.quantiles(self.latencies[operation], n=100)[98]

    async def _run_client(self, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        fields = {"tenant_id": str(self._tenant), "rule_name": "missed_call", "message": "Call back"}
        while time.monotonic() < end:
            alert = await self._send("create", reader, writer, "POST /alerts", json.dumps(fields))
            if alert:
                await self._send("get", reader, writer, f"GET /alerts/{alert['id']}")
            await self._send("list", reader, writer, f"GET /alerts?tenant_id={self._tenant}")
            await self._send("search", reader, writer, f"GET /alerts?tenant_id={self._tenant}&q=back")
        writer.close()
        await writer.wait_closed()

    async def _send(
        self, operation: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, body: str = ""
    ) -> Any:
        """Return the decoded body of the response, or None if the request failed."""
        sent_at = time.monotonic()
        head = f"{target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        response_head = await reader.readuntil(b"\r\n\r\n")
        length = int(response_head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        self.latencies[operation].append(time.monotonic() - sent_at)
        await asyncio.sleep(PAUSE_SECONDS)
        if response_head[9:12] in {b"200", b"201"}:
            return json.loads(content)
        self.failed.append(response_head)
        return None


@asynccontextmanager
async def send_with_wrk(service: ServiceProcess, load: NoisyLoad, folder: Path) -> AsyncIterator[None]:
    """Send the load with wrk, each request as soon as the response to the previous one has arrived."""
    script = folder / "load.lua"
    script.write_text(WRK_SCRIPT % {"target": load.target, "method": load.method, "body": load.body, "key": load.key})
    options = ["-t1", f"-c{load.connections}", "-d60s", "--timeout", "30s", "-s", str(script)]
    process = await asyncio.create_subprocess_exec("wrk", *options, service.url, stdout=subprocess.DEVNULL)
    try:
        await asyncio.sleep(0.2)
        yield
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def send_without_reading(service: ServiceProcess, load: NoisyLoad, _: Path) -> AsyncIterator[None]:
    """Send one request over every connection, and read no response."""
    port = port_of(service)
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=1) for _ in range(load.connections)]
    for number, (_reader, writer) in enumerate(connections):
        target = load.target.replace("NUMBER", str(number))
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    try:
        yield
    finally:
        for _reader, writer in connections:
            writer.transport.abort()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[ServiceProcess, Postgres]]:
    with running_postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        yield service, database


async def insert_resolved_alerts(
    database: Postgres, message: str, note: str | None = None, count: int = 300
) -> tuple[UUID, UUID]:
    """Insert resolved alerts of a new tenant; return the tenant, and the id of one of them."""
    tenant, connection = uuid4(), await asyncpg.connect(database.dsn)
    sql = (
        "INSERT INTO alerts (tenant_id, rule_name, message, status, acknowledged_at, acknowledgment_note, resolved_at,"
        " resolution_note) SELECT $1, 'r', $2, 'resolved', now(), $3, now(), $3 FROM generate_series(1, $4)"
        " RETURNING id"
    )
    rows = await connection.fetch(sql, tenant, message, note, count)
    await connection.close()
    return tenant, rows[0]["id"]


SendLoad: TypeAlias = Callable[[ServiceProcess, NoisyLoad, Path], AbstractAsyncContextManager[None]]


async def measure_latency(
    service: ServiceProcess,
    load: NoisyLoad,
    folder: Path,
    report_latency: ReportLatency,
    send_load: SendLoad = send_with_wrk,
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure another tenant without and with the load, in rounds, and assert that none of its requests fails.

    Returns:
        By operation, the medians of its p99 in seconds with the load, and of the ratio to its p99 without the load.
    """
    ratios: dict[str, list[float]] = defaultdict(list)
    p99: dict[str, list[float]] = defaultdict(list)
    requests = failed = 0
    await OtherTenant(service).send_requests(1)  # warm-up
    for _ in range(ROUNDS):
        without_load, with_load = OtherTenant(service), OtherTenant(service)
        await without_load.send_requests()
        async with send_load(service, load, folder):
            await with_load.send_requests()
        await asyncio.sleep(1)
        for operation in without_load.latencies:
            ratios[operation].append(with_load.p99(operation) / without_load.p99(operation))
            p99[operation].append(with_load.p99(operation))
        requests += sum(map(len, with_load.latencies.values()))
        failed += len(without_load.failed) + len(with_load.failed)
    median_p99 = {operation: statistics.median(values) for operation, values in p99.items()}
    median_ratios = {operation: statistics.median(values) for operation, values in ratios.items()}
    report_latency(load.title, load.connections, requests, failed, median_p99, median_ratios)
    assert failed == 0
    return median_p99, median_ratios


def assert_latency_ratio(medians: tuple[dict[str, float], dict[str, float]]) -> None:
    """Assert that p99 grows at most sixfold: 3 times, with a margin of 2 for noise. Searches are not asserted."""
    _, ratios = medians
    assert max(ratios[operation] for operation in ("create", "get", "list")) <= 3 * NOISE_MARGIN, medians


async def test_searches_in_messages_without_spaces_do_not_slow_others(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    tenant, _ = await insert_resolved_alerts(servers[1], "a_" * 5000)
    load = NoisyLoad("searches in messages without spaces", 128, f"/alerts?tenant_id={tenant}&q=wordNUMBER")
    assert_latency_ratio(await measure_latency(servers[0], load, tmp_path, report_latency))


async def test_searches_that_examine_many_alerts_do_not_slow_others(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    tenant, _ = await insert_resolved_alerts(servers[1], "a b c d e f", count=2000)
    load = NoisyLoad("searches that examine 1,000 alerts a page", 128, f"/alerts?tenant_id={tenant}&q=wordNUMBER")
    assert_latency_ratio(await measure_latency(servers[0], load, tmp_path, report_latency))


async def test_searches_for_hyphens_fail_no_request_of_others(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    tenant, _ = await insert_resolved_alerts(servers[1], "m", count=5)
    load = NoisyLoad("searches for 33 hyphens", 4, f"/alerts?tenant_id={tenant}&q={'-' * 33}")
    await measure_latency(servers[0], load, tmp_path, report_latency)


async def test_lists_of_large_alerts_do_not_slow_others(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    tenant, _ = await insert_resolved_alerts(servers[1], LARGE_TEXT, LARGE_TEXT)
    target = f"/alerts?tenant_id={tenant}&created_before=2030-01-01T00:00:00.NUMBERZ"
    load = NoisyLoad("lists of alerts of 120 kB each", 128, target)
    assert_latency_ratio(await measure_latency(servers[0], load, tmp_path, report_latency))


async def test_unread_lists_of_large_alerts_fail_no_request_of_others(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    tenant, _ = await insert_resolved_alerts(servers[1], LARGE_TEXT, LARGE_TEXT)
    target = f"/alerts?tenant_id={tenant}&created_before=2030-01-01T00:00:00.NUMBERZ"
    load = NoisyLoad("lists of alerts of 120 kB each, responses not read", 200, target)
    await measure_latency(servers[0], load, tmp_path, report_latency, send_without_reading)


async def test_dry_runs_of_one_large_alert_keep_others_below_200_ms(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    _, alert_id = await insert_resolved_alerts(servers[1], LARGE_TEXT, LARGE_TEXT, count=1)
    body = json.dumps({"ids": [str(alert_id)] * 1000, "dry_run": True})
    load = NoisyLoad("dry runs of 1,000 ids of one alert of 120 kB", 8, "/alerts/bulk/resolve", "POST", body)
    p99, _ = await measure_latency(servers[0], load, tmp_path, report_latency)
    assert max(p99.values()) < 0.2, p99


async def test_bulk_lists_of_invalid_items_keep_others_below_200_ms(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    item = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m", "severity": "odd"}
    body = json.dumps({"alerts": [item] * 1000})
    load = NoisyLoad("bulk lists of 1,000 invalid items", 8, "/alerts/bulk", "POST", body)
    p99, _ = await measure_latency(servers[0], load, tmp_path, report_latency)
    assert max(p99.values()) < 0.2, p99


async def test_transitions_with_idempotency_keys_fail_no_request_of_others(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_latency: ReportLatency
) -> None:
    _, alert_id = await insert_resolved_alerts(servers[1], "m", count=1)
    title = "transitions with idempotency keys, without a tenant"
    load = NoisyLoad(title, 128, f"/alerts/{alert_id}/resolve", "PUT", "{}", "key-NUMBER")
    await measure_latency(servers[0], load, tmp_path, report_latency)
