"""The memory of a real process while clients do not read, or read slowly, what they asked for."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest

from alerts_service.settings import Settings
from tests.support.processes import ServiceProcess, serving
from tests.support.sockets import MIB, memory_growth_below

TEXT = "\N{GRINNING FACE}" * 10_000  # 40 kB of JSON
REQUEST_TIMEOUT = 1.0  # so a client must read 64 KiB/s


@pytest.fixture
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with serving(
        tmp_path_factory.mktemp("cwd"),
        DATABASE_URL=str(settings.database_url),
        AS_ALERTS_REQUEST_TIMEOUT=str(REQUEST_TIMEOUT),
        AS_ALERTS_SEND_BUFFER_MIB="32",
    ) as process:
        yield process


def create_large(client: httpx.Client, tenant: UUID) -> str:
    """Create an alert with 120 kB of JSON, and return its id."""
    created = client.post("/alerts", json={"tenant_id": str(tenant), "rule_name": "r", "message": TEXT})
    id_ = str(created.json()["id"])
    for verb in ("acknowledge", "resolve"):
        assert client.put(f"/alerts/{id_}/{verb}", json={"note": TEXT}).status_code == 200
    return id_


def large_request(id_: str) -> bytes:
    """Ask for 1,000 results of the same alert: 4 MiB and what the last whole alerts have beyond that."""
    body = json.dumps({"ids": [id_] * 1000, "dry_run": True}).encode()
    head = (
        b"POST /alerts/bulk/resolve HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    return head % len(body) + body


def page_request(tenant: UUID) -> bytes:
    return f"GET /alerts?tenant_id={tenant} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@contextmanager
def requesting(service: ServiceProcess, request: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Send a request over connections whose kernel buffers take little of the responses."""
    sockets = []
    for _ in range(count):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)  # the kernel's own are 64 KiB on loopback
        connection.settimeout(10)
        connection.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
        connection.sendall(request)
        sockets.append(connection)
    try:
        yield sockets
    finally:
        for connection in sockets:
            connection.close()


@contextmanager
def responsive(service: ServiceProcess, seconds: float) -> Iterator[None]:
    """Meanwhile /health/live answers within so many seconds each time."""
    over, durations = Event(), [0.0]

    def look() -> None:
        with service.client() as client:
            while not over.wait(0.01):
                started = time.monotonic()
                assert client.get("/health/live", timeout=30).status_code == 200
                durations.append(time.monotonic() - started)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield
        finally:
            over.set()
    looking.result()
    assert max(durations) < seconds


@contextmanager
def returned(service: ServiceProcess, mib: int) -> Iterator[None]:
    """At most 10 s after the block, the process has only so much more memory than before it."""
    before = resident(service)
    yield
    wait_until(lambda: resident(service) - before < mib * MIB, 10)


def clients(service: ServiceProcess) -> int:
    """Count the connections of clients."""
    port = int(service.url.rpartition(":")[2])
    connections = psutil.Process(service.process.pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.laddr.port == port for each in connections)


def resident(service: ServiceProcess) -> int:
    return psutil.Process(service.process.pid).memory_info().rss


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_bulk_call_of_one_large_alert_a_thousand_times(service: ServiceProcess, tenant: UUID) -> None:
    with service.client() as client:
        ids = [create_large(client, tenant)] * 1000

    def call(_: int) -> int:
        with service.client() as client:
            response = client.post("/alerts/bulk/resolve", json={"ids": ids, "dry_run": True}, timeout=30)
        assert [result["status"] for result in response.json()["results"]] == [200] * 1000
        return len(response.content)

    with (
        returned(service, 24),
        memory_growth_below(service, 64),
        responsive(service, 0.5),
        ThreadPoolExecutor(4) as pool,
    ):
        assert max(pool.map(call, range(8))) < 6 * MIB


def test_a_bulk_call_of_a_thousand_large_alerts(service: ServiceProcess, tenant: UUID) -> None:
    """What is left out of a response takes no memory meanwhile."""
    with service.client() as client:
        alerts = [{"tenant_id": str(tenant), "rule_name": "r", "message": TEXT}] * 20
        for _ in range(50):
            assert client.post("/alerts/bulk", json={"alerts": alerts}).status_code == 200
        for note in (None, TEXT):  # the second call finds all of them resolved with another note
            asked = {"filter": {"tenant_id": str(tenant)}, "dry_run": note is None, "note": note}
            with returned(service, 32), memory_growth_below(service, 96):
                response = client.post("/alerts/bulk/resolve", json=asked, timeout=30)
                results = response.json()["results"]
            assert len(results) == 1000
            assert len(response.content) < 6 * MIB
        ids = [result["alert"]["id"] if "alert" in result else result["id"] for result in results]
        with returned(service, 32), memory_growth_below(service, 96):
            response = client.post("/alerts/bulk/resolve", json={"ids": ids, "note": "other"}, timeout=30)
        assert [result["status"] for result in response.json()["results"]] == [409] * 1000


def test_clients_that_read_too_slowly_are_disconnected(service: ServiceProcess, tenant: UUID) -> None:
    """Reading something is not enough: a client that reads 40 KiB in each request timeout is cut off."""
    with service.client() as client:
        request = large_request(create_large(client, tenant))
    with returned(service, 24), memory_growth_below(service, 96), requesting(service, request, 6) as slow:
        for connection in slow:
            assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        deadline = time.monotonic() + 10 * REQUEST_TIMEOUT
        while clients(service):
            assert time.monotonic() < deadline
            for connection in slow:
                with suppress(BlockingIOError, ConnectionResetError):
                    connection.recv(8192, socket.MSG_DONTWAIT)
            time.sleep(0.2)


def test_a_client_that_reads_fast_enough_gets_its_response(service: ServiceProcess, tenant: UUID) -> None:
    with service.client() as client:
        for _ in range(8):
            create_large(client, tenant)
    with requesting(service, page_request(tenant), 1) as (connection,):
        response = b""
        while not response.endswith(b"]"):
            some = connection.recv(64 * 1024)
            assert some
            response += some
            time.sleep(0.1)
    assert len(json.loads(response.partition(b"\r\n\r\n")[2])) == 8


def test_clients_that_do_not_read_large_pages(service: ServiceProcess, tenant: UUID) -> None:
    """Responses that nobody reads take as much memory as the send buffer has, and the others are 503."""
    with service.client() as client:
        for _ in range(50):
            create_large(client, tenant)
        with (
            memory_growth_below(service, 400),
            requesting(service, page_request(tenant), 200) as unread,
            returned(service, 48),
        ):
            statuses = {int(connection.recv(12, socket.MSG_WAITALL).split()[1]) for connection in unread}
            assert 503 in statuses
        wait_until(lambda: client.get(f"/alerts?tenant_id={tenant}").status_code == 200, 10)


def test_a_full_send_buffer_refuses_large_responses_only(settings: Settings, tmp_path: Path, tenant: UUID) -> None:
    """Then a change with a large response is refused before it is made, and can be sent again."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_SEND_BUFFER_MIB="1") as service,
        service.client() as client,
    ):
        large = create_large(client, tenant)
        small = client.post("/alerts", json={"tenant_id": str(tenant), "rule_name": "r", "message": "m"}).json()
        keyed: dict[str, Any] = {"json": {"note": TEXT}, "headers": {"Idempotency-Key": str(tenant)}}
        assert client.put(f"/alerts/{large}/resolve", **keyed).status_code == 200
        with requesting(service, large_request(large), 1) as (unread,):
            assert unread.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            refusals = [
                client.post("/alerts/bulk/resolve", json={"ids": [small["id"]]}),
                client.post("/alerts/bulk", json={"alerts": [{"tenant_id": str(tenant)}]}),
                client.get(f"/alerts/{large}"),
                client.put(f"/alerts/{large}/resolve", **keyed),  # the first response, again
            ]
            assert client.get(f"/alerts/{small['id']}").json() == small
        full = "the send buffer for large responses is full (AS_ALERTS_SEND_BUFFER_MIB)"
        assert [response.status_code for response in refusals] == [503] * 4
        assert [response.headers.get("retry-after") for response in refusals] == ["1", "1", "1", None]
        assert [response.json() for response in refusals] == [
            {"error": "Service unavailable", "detail": full},
            {"error": "Service unavailable", "detail": full},
            {"error": "Service unavailable", "detail": full},
            {"error": "Service unavailable", "detail": f"the request was processed, but {full}"},
        ]
        wait_until(lambda: client.get(f"/alerts/{large}").status_code == 200, 10)
        assert client.put(f"/alerts/{large}/resolve", **keyed).headers["idempotent-replayed"] == "true"


def test_slow_clients_give_way_to_others(settings: Settings, tmp_path: Path, tenant: UUID) -> None:
    """A client that reads fast enough to stay connected is cut off when the send buffer has no room for another one."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_SEND_BUFFER_MIB="1") as service,
        service.client() as client,
    ):
        large = create_large(client, tenant)
        with requesting(service, large_request(large), 1) as (slow,):
            assert slow.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            assert client.get(f"/alerts/{large}").status_code == 503
            began = time.monotonic()
            while client.get(f"/alerts/{large}").status_code == 503:
                assert slow.recv(8192)
                assert time.monotonic() < began + 5
                time.sleep(0.02)
            assert client.post("/alerts/bulk/resolve", json={"ids": [large]}).status_code == 200
        assert any("send buffer is full" in line["message"] for line in service.stop())


def test_clients_that_do_not_read_a_file_of_the_documentation(service: ServiceProcess) -> None:
    request = b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
    with returned(service, 48), memory_growth_below(service, 128), requesting(service, request, 200) as unread:
        for connection in unread:
            assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        wait_until(lambda: not clients(service), 10)  # each is cut off when it holds as much as it ever does
