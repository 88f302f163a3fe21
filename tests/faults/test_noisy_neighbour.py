"""One caller does its worst: what the clients of another tenant see of it."""

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

from tests.faults.conftest import ReportNeighbour
from tests.faults.postgres import Postgres, postgres
from tests.support.processes import ServiceProcess, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

ROUNDS, SECONDS, PAUSE_SECONDS = 3, 3.0, 0.01
CALLERS = 4
NOISE_MARGIN = 2
LARGE = "\U00010400" * 10_000  # 40 kB

# Each request has another number, so that no two of them share an answer.
SCRIPT = """
local number = 0
request = function()
    number = number + 1
    local part = function(text) return (string.gsub(text, "NUMBER", tostring(number))) end
    local headers = {["Content-Type"] = "application/json"}
    if [[%(key)s]] ~= "" then headers["Idempotency-Key"] = part("%(key)s") end
    return wrk.format("%(method)s", part([[%(target)s]]), headers, part([[%(body)s]]))
end
"""


class Load(Struct):
    """What the noisy caller sends, over how many connections."""

    what: str
    connections: int
    target: str
    method: str = "GET"
    body: str = ""
    key: str = ""


class Neighbour:
    """Callers of one tenant that create, get, list and search alerts, and how many seconds each request took."""

    def __init__(self, service: ServiceProcess) -> None:
        self._port, self._tenant = int(service.url.rsplit(":", 1)[1]), uuid4()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.failed: list[bytes] = []

    async def call(self, seconds: float = SECONDS) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._call(until) for _ in range(CALLERS)))

    def p99(self, verb: str) -> float:
        return statistics.quantiles(self.seconds[verb], n=100)[98]

    async def _call(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        fields = {"tenant_id": str(self._tenant), "rule_name": "missed_call", "message": "Call back"}
        while time.monotonic() < until:
            alert = await self._send("create", reader, writer, "POST /alerts", json.dumps(fields))
            if alert:
                await self._send("get", reader, writer, f"GET /alerts/{alert['id']}")
            await self._send("list", reader, writer, f"GET /alerts?tenant_id={self._tenant}")
            await self._send("search", reader, writer, f"GET /alerts?tenant_id={self._tenant}&q=back")
        writer.close()
        await writer.wait_closed()

    async def _send(
        self, verb: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, body: str = ""
    ) -> Any:
        started = time.monotonic()
        head = f"{target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        content = await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        self.seconds[verb].append(time.monotonic() - started)
        await asyncio.sleep(PAUSE_SECONDS)
        if answer[9:12] in {b"200", b"201"}:
            return json.loads(content)
        self.failed.append(answer)
        return None


@asynccontextmanager
async def sending(service: ServiceProcess, load: Load, folder: Path) -> AsyncIterator[None]:
    """Send the load from a process of its own, each request as soon as the one before it is answered."""
    script = folder / "load.lua"
    script.write_text(SCRIPT % {"target": load.target, "method": load.method, "body": load.body, "key": load.key})
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
async def not_reading(service: ServiceProcess, load: Load, _: Path) -> AsyncIterator[None]:
    """Ask over every connection, and read none of the answers."""
    port = int(service.url.rsplit(":", 1)[1])
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
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        yield service, database


async def store(database: Postgres, message: str, note: str | None = None, count: int = 300) -> tuple[UUID, UUID]:
    """Store resolved alerts of a new tenant; return the tenant, and the id of one of them."""
    tenant, connection = uuid4(), await asyncpg.connect(database.dsn)
    sql = (
        "INSERT INTO alerts (tenant_id, rule_name, message, status, acknowledged_at, acknowledgment_note, resolved_at,"
        " resolution_note) SELECT $1, 'r', $2, 'resolved', now(), $3, now(), $3 FROM generate_series(1, $4)"
        " RETURNING id"
    )
    rows = await connection.fetch(sql, tenant, message, note, count)
    await connection.close()
    return tenant, rows[0]["id"]


Loading: TypeAlias = Callable[[ServiceProcess, Load, Path], AbstractAsyncContextManager[None]]


async def compare(
    service: ServiceProcess, load: Load, folder: Path, report: ReportNeighbour, loading: Loading = sending
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure the neighbour alone and beside the load, in turn; return the medians of its p99, and of their ratios."""
    ratios: dict[str, list[float]] = defaultdict(list)
    p99: dict[str, list[float]] = defaultdict(list)
    requests = failed = 0
    await Neighbour(service).call(1)  # warms up
    for _ in range(ROUNDS):
        alone, beside = Neighbour(service), Neighbour(service)
        await alone.call()
        async with loading(service, load, folder):
            await beside.call()
        await asyncio.sleep(1)
        for verb in alone.seconds:
            ratios[verb].append(beside.p99(verb) / alone.p99(verb))
            p99[verb].append(beside.p99(verb))
        requests += sum(map(len, beside.seconds.values()))
        failed += len(alone.failed) + len(beside.failed)
    seconds, times = ({verb: statistics.median(each) for verb, each in found.items()} for found in (p99, ratios))
    report(load.what, load.connections, requests, failed, seconds, times)
    assert failed == 0
    return seconds, times


def assert_latency_ratio(figures: tuple[dict[str, float], dict[str, float]]) -> None:
    """Assert that p99 grows at most sixfold: 3 times, with a margin of 2 for noise. Searches are not asserted."""
    _, ratios = figures
    assert max(ratios[verb] for verb in ("create", "get", "list")) <= 3 * NOISE_MARGIN, figures


async def test_searches_of_messages_without_blanks(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    tenant, _ = await store(servers[1], "a_" * 5000)
    load = Load("searches in messages without spaces", 128, f"/alerts?tenant_id={tenant}&q=wordNUMBER")
    assert_latency_ratio(await compare(servers[0], load, tmp_path, report_neighbour))


async def test_searches_of_many_alerts(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    tenant, _ = await store(servers[1], "a b c d e f", count=2000)
    load = Load("searches that examine 1,000 alerts a page", 128, f"/alerts?tenant_id={tenant}&q=wordNUMBER")
    assert_latency_ratio(await compare(servers[0], load, tmp_path, report_neighbour))


async def test_searches_without_a_word(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    tenant, _ = await store(servers[1], "m", count=5)
    load = Load("searches for 33 hyphens", 4, f"/alerts?tenant_id={tenant}&q={'-' * 33}")
    await compare(servers[0], load, tmp_path, report_neighbour)


async def test_large_pages(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    tenant, _ = await store(servers[1], LARGE, LARGE)
    target = f"/alerts?tenant_id={tenant}&created_before=2030-01-01T00:00:00.NUMBERZ"
    load = Load("lists of alerts of 120 kB each", 128, target)
    assert_latency_ratio(await compare(servers[0], load, tmp_path, report_neighbour))


async def test_answers_that_nobody_reads(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    tenant, _ = await store(servers[1], LARGE, LARGE)
    target = f"/alerts?tenant_id={tenant}&created_before=2030-01-01T00:00:00.NUMBERZ"
    load = Load("lists of alerts of 120 kB each, responses not read", 200, target)
    await compare(servers[0], load, tmp_path, report_neighbour, not_reading)


async def test_dry_runs_of_one_large_alert(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    _, id_ = await store(servers[1], LARGE, LARGE, count=1)
    body = json.dumps({"ids": [str(id_)] * 1000, "dry_run": True})
    load = Load("dry runs of 1,000 ids of one alert of 120 kB", 8, "/alerts/bulk/resolve", "POST", body)
    p99, _ = await compare(servers[0], load, tmp_path, report_neighbour)
    assert max(p99.values()) < 0.2, p99


async def test_invalid_items(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    item = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m", "severity": "odd"}
    load = Load("bulk lists of 1,000 invalid items", 8, "/alerts/bulk", "POST", json.dumps({"alerts": [item] * 1000}))
    p99, _ = await compare(servers[0], load, tmp_path, report_neighbour)
    assert max(p99.values()) < 0.2, p99


async def test_changes_with_keys(
    servers: tuple[ServiceProcess, Postgres], tmp_path: Path, report_neighbour: ReportNeighbour
) -> None:
    _, id_ = await store(servers[1], "m", count=1)
    load = Load(
        "transitions with idempotency keys, without a tenant", 128, f"/alerts/{id_}/resolve", "PUT", "{}", "key-NUMBER"
    )
    await compare(servers[0], load, tmp_path, report_neighbour)
