"""Two thousand connections send requests at once."""

import asyncio
import json
import resource
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
from msgspec import Struct
from typing_extensions import Self

from tests.faults.postgres import running_postgres
from tests.faults.service import port_of
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

BATCH_CLIENTS = 64  # the maximum number of requests in a batch
FEW_CLIENTS = 192
MANY_CLIENTS = 2000
LOAD_SECONDS = 2
QUEUE_TIMEOUT_SECONDS = 2
HALF_STATEMENT_SECONDS = 0.5

# Each INSERT takes one second. A service with one connection then creates 64 alerts a second: one batch.
ONE_SECOND_INSERTS = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE TRIGGER slow BEFORE INSERT ON alerts EXECUTE FUNCTION slow();
"""


class TimedResponse(Struct):
    """A response with the time of `time.monotonic` when it was complete, and its latency in seconds."""

    status: int
    head: bytes
    body: bytes
    completed_at: float
    latency: float


@pytest.fixture(autouse=True)
def _raise_file_limit() -> None:
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard_limit, 20_000), hard_limit))


class Clients:
    """Clients with one open connection each."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            self._connections.append(await asyncio.open_connection("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *error: object) -> None:
        for _, writer in self._connections:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._connections))

    async def send_requests(self, seconds: float = LOAD_SECONDS) -> list[TimedResponse]:
        """Send create requests for this long, each as soon as the previous response is complete."""
        responses: list[TimedResponse] = []
        end = time.monotonic() + seconds
        await asyncio.gather(*(_run_client(*connection, end, responses) for connection in self._connections))
        return responses


async def _run_client(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: float, responses: list[TimedResponse]
) -> None:
    body = json.dumps({"tenant_id": str(uuid4()), "rule_name": "overload", "message": "m"}).encode()
    head = b"POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    request = head % len(body) + body
    while time.monotonic() < end:
        sent_at = time.monotonic()
        writer.write(request)
        response_head = await reader.readuntil(b"\r\n\r\n")
        length = int(response_head.split(b"content-length: ")[1].split(b"\r\n")[0])
        response_body = await reader.readexactly(length)
        completed_at = time.monotonic()
        status = int(response_head[9:12])
        responses.append(TimedResponse(status, response_head, response_body, completed_at, completed_at - sent_at))


async def _send_requests(port: int, clients: int, seconds: float = LOAD_SECONDS) -> list[TimedResponse]:
    async with Clients(port, clients) as connected_clients:
        return await connected_clients.send_requests(seconds)


def _throughput(responses: list[TimedResponse]) -> tuple[float, float]:
    """Return the successes and the responses per second, from the end of one statement to the end of another.

    Responses up to half a statement after the end of a statement are counted with it.
    """
    created_at = sorted(response.completed_at for response in responses if response.status == 201)
    start, end = next(at for at in created_at if at > created_at[0] + QUEUE_TIMEOUT_SECONDS), created_at[-1]
    span = [
        response
        for response in responses
        if start + HALF_STATEMENT_SECONDS < response.completed_at < end + HALF_STATEMENT_SECONDS
    ]
    return sum(response.status == 201 for response in span) / (end - start), len(span) / (end - start)


def _assert_rejected(responses: list[TimedResponse]) -> None:
    """Assert that each response is a 503 with `Retry-After`, sent at most 1.5 seconds after the queue timeout."""
    for response in responses:
        assert response.status == 503, response
        assert b"\r\nretry-after: 1\r\n" in response.head, response
        assert json.loads(response.body).keys() == {"error", "detail"}, response
        assert response.latency < QUEUE_TIMEOUT_SECONDS + 1.5, response


async def test_requests_are_rejected_while_the_table_is_locked(tmp_path: Path) -> None:
    """Meanwhile `/health` is 200 and memory is bounded, although 200 more connections have sent half a request."""
    with running_postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        port, process = port_of(service), psutil.Process(service.process.pid)
        incomplete = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _, writer in incomplete:
            writer.write(b"POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert {response.status for response in await _send_requests(port, BATCH_CLIENTS)} == {201}
        locker = await asyncpg.connect(database.dsn)
        async with locker.transaction(), httpx.AsyncClient(base_url=service.url, verify=False, timeout=10) as client:
            await locker.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
            load = asyncio.create_task(_send_requests(port, MANY_CLIENTS))
            health_checks = 0
            while not load.done():
                health_checks += (await client.get("/health")).raise_for_status().status_code == 200
                await asyncio.sleep(0.05)
            responses = await load
            assert process.memory_info().rss < 200 * 2**20
        await locker.close()
        assert health_checks > 0
        assert responses
        _assert_rejected(responses)
        assert {response.status for response in await _send_requests(port, BATCH_CLIENTS)} == {201}
        for _, writer in incomplete:
            writer.close()


async def test_overload_does_not_reduce_throughput(tmp_path: Path) -> None:
    """2,000 clients send more than ten times what a slow database can process; all other requests are rejected."""
    with (
        running_postgres() as database,
        serving(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_POOL_SIZE="1") as service,
    ):
        port = port_of(service)
        admin = await asyncpg.connect(database.dsn)
        await admin.execute(ONE_SECOND_INSERTS)
        await admin.close()
        few, many = [await _send_requests(port, clients, seconds=6) for clients in (FEW_CLIENTS, MANY_CLIENTS)]
    (peak, _), (created_per_second, responses_per_second) = _throughput(few), _throughput(many)
    assert responses_per_second > 10 * peak
    assert created_per_second > 0.8 * peak
    _assert_rejected([response for response in many if response.status != 201])


async def test_cpu_time_of_a_request_hardly_depends_on_the_number_of_connections(tmp_path: Path) -> None:
    with running_postgres(fsync="off") as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        port, process = port_of(service), psutil.Process(service.process.pid)
        few, many = [await _cpu_seconds_per_request(port, process, count) for count in (BATCH_CLIENTS, MANY_CLIENTS)]
    assert few > 0.8 * many


async def _cpu_seconds_per_request(port: int, process: psutil.Process, clients: int) -> float:
    async with Clients(port, clients) as connected_clients:
        before = process.cpu_times()
        responses = await connected_clients.send_requests()
        after = process.cpu_times()
    assert {response.status for response in responses} == {201}
    return (after.user - before.user + after.system - before.system) / len(responses)
