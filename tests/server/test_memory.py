"""Memory of the service while clients read large responses slowly or not at all."""

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
from tests.support.api import alert_body
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
    created = client.post("/alerts", json=alert_body(tenant, message=TEXT))
    id_ = str(created.json()["id"])
    for verb in ("acknowledge", "resolve"):
        assert client.put(f"/alerts/{id_}/{verb}", json={"note": TEXT}).status_code == 200
    return id_


def large_request(id_: str) -> bytes:
    """Return a request for 1,000 results of one alert, whose response has 4 MiB and the rest of its last alert."""
    body = json.dumps({"ids": [id_] * 1000, "dry_run": True}).encode()
    head = (
        b"POST /alerts/bulk/resolve HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    return head % len(body) + body


def list_request(tenant: UUID) -> bytes:
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
    """Assert that `/health/live` always responds within `seconds` while the block runs."""
    finished, durations = Event(), [0.0]

    def measure() -> None:
        with service.client() as client:
            while not finished.wait(0.01):
                started = time.monotonic()
                assert client.get("/health/live", timeout=30).status_code == 200
                durations.append(time.monotonic() - started)

    with ThreadPoolExecutor(1) as pool:
        measuring = pool.submit(measure)
        try:
            yield
        finally:
            finished.set()
    measuring.result()
    assert max(durations) < seconds


@contextmanager
def memory_released(service: ServiceProcess, mib: int) -> Iterator[None]:
    """Assert that within 10 s after the block the service has less than `mib` MiB more memory than before it."""
    before = resident_memory(service)
    yield
    wait_until(lambda: resident_memory(service) - before < mib * MIB, 10)


def client_connections(service: ServiceProcess) -> int:
    """Return how many clients are connected."""
    port = int(service.url.rpartition(":")[2])
    connections = psutil.Process(service.process.pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.laddr.port == port for each in connections)


def resident_memory(service: ServiceProcess) -> int:
    return psutil.Process(service.process.pid).memory_info().rss


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_bulk_requests_with_the_same_large_alert_in_every_result(service: ServiceProcess, tenant: UUID) -> None:
    with service.client() as client:
        ids = [create_large(client, tenant)] * 1000

    def resolve(_: int) -> int:
        with service.client() as client:
            response = client.post("/alerts/bulk/resolve", json={"ids": ids, "dry_run": True}, timeout=30)
        assert [result["status"] for result in response.json()["results"]] == [200] * 1000
        return len(response.content)

    with (
        memory_released(service, 24),
        memory_growth_below(service, 64),
        responsive(service, 0.5),
        ThreadPoolExecutor(4) as pool,
    ):
        assert max(pool.map(resolve, range(8))) < 6 * MIB


def test_bulk_requests_with_a_thousand_large_alerts(service: ServiceProcess, tenant: UUID) -> None:
    """Alerts that are left out of a response take no memory."""
    with service.client() as client:
        alerts = [alert_body(tenant, message=TEXT)] * 20
        for _ in range(50):
            assert client.post("/alerts/bulk", json={"alerts": alerts}).status_code == 200
        for note in (None, TEXT):  # in the second round all are resolved already, with another note
            body = {"filter": {"tenant_id": str(tenant)}, "dry_run": note is None, "note": note}
            with memory_released(service, 32), memory_growth_below(service, 96):
                response = client.post("/alerts/bulk/resolve", json=body, timeout=30)
                results = response.json()["results"]
            assert len(results) == 1000
            assert len(response.content) < 6 * MIB
        ids = [result["alert"]["id"] if "alert" in result else result["id"] for result in results]
        with memory_released(service, 32), memory_growth_below(service, 96):
            response = client.post("/alerts/bulk/resolve", json={"ids": ids, "note": "other"}, timeout=30)
        assert [result["status"] for result in response.json()["results"]] == [409] * 1000


def test_clients_that_read_too_slowly_are_disconnected(service: ServiceProcess, tenant: UUID) -> None:
    """A client that reads 40 KiB per request timeout is too slow."""
    with service.client() as client:
        request = large_request(create_large(client, tenant))
    with memory_released(service, 24), memory_growth_below(service, 96), requesting(service, request, 6) as slow:
        for connection in slow:
            assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        deadline = time.monotonic() + 10 * REQUEST_TIMEOUT
        while client_connections(service):
            assert time.monotonic() < deadline
            for connection in slow:
                with suppress(BlockingIOError, ConnectionResetError):
                    connection.recv(8192, socket.MSG_DONTWAIT)
            time.sleep(0.2)


def test_a_client_that_reads_fast_enough_receives_its_response(service: ServiceProcess, tenant: UUID) -> None:
    with service.client() as client:
        for _ in range(8):
            create_large(client, tenant)
    with requesting(service, list_request(tenant), 1) as (connection,):
        response = b""
        while not response.endswith(b"]"):
            data = connection.recv(64 * 1024)
            assert data
            response += data
            time.sleep(0.1)
    assert len(json.loads(response.partition(b"\r\n\r\n")[2])) == 8


def test_unread_responses_take_no_more_memory_than_the_send_buffer(service: ServiceProcess, tenant: UUID) -> None:
    """Requests whose response does not fit are answered with 503."""
    with service.client() as client:
        for _ in range(50):
            create_large(client, tenant)
        with (
            memory_growth_below(service, 400),
            requesting(service, list_request(tenant), 200) as unread,
            memory_released(service, 48),
        ):
            statuses = {int(connection.recv(12, socket.MSG_WAITALL).split()[1]) for connection in unread}
            assert 503 in statuses
        wait_until(lambda: client.get(f"/alerts?tenant_id={tenant}").status_code == 200, 10)


def test_a_full_send_buffer_rejects_only_requests_with_large_responses(
    settings: Settings, tmp_path: Path, tenant: UUID
) -> None:
    """A write with a large response is rejected before it is executed, and can be sent again."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_SEND_BUFFER_MIB="1") as service,
        service.client() as client,
    ):
        large = create_large(client, tenant)
        small = client.post("/alerts", json=alert_body(tenant)).json()
        idempotent: dict[str, Any] = {"json": {"note": TEXT}, "headers": {"Idempotency-Key": str(tenant)}}
        assert client.put(f"/alerts/{large}/resolve", **idempotent).status_code == 200
        with requesting(service, large_request(large), 1) as (unread,):
            assert unread.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            rejections = [
                client.post("/alerts/bulk/resolve", json={"ids": [small["id"]]}),
                client.post("/alerts/bulk", json={"alerts": [{"tenant_id": str(tenant)}]}),
                client.get(f"/alerts/{large}"),
                client.put(f"/alerts/{large}/resolve", **idempotent),  # a replay of the first response
            ]
            assert client.get(f"/alerts/{small['id']}").json() == small
        full = "the send buffer for large responses is full (AS_ALERTS_SEND_BUFFER_MIB)"
        assert [response.status_code for response in rejections] == [503] * 4
        assert [response.headers.get("retry-after") for response in rejections] == ["1", "1", "1", None]
        assert [response.json() for response in rejections] == [
            {"error": "Service unavailable", "detail": full},
            {"error": "Service unavailable", "detail": full},
            {"error": "Service unavailable", "detail": full},
            {"error": "Service unavailable", "detail": f"the request was processed, but {full}"},
        ]
        wait_until(lambda: client.get(f"/alerts/{large}").status_code == 200, 10)
        assert client.put(f"/alerts/{large}/resolve", **idempotent).headers["idempotent-replayed"] == "true"


def test_a_slow_client_is_disconnected_when_others_need_the_send_buffer(
    settings: Settings, tmp_path: Path, tenant: UUID
) -> None:
    """Without other requests the client would read fast enough to stay connected."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_SEND_BUFFER_MIB="1") as service,
        service.client() as client,
    ):
        large = create_large(client, tenant)
        with requesting(service, large_request(large), 1) as (slow,):
            assert slow.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            assert client.get(f"/alerts/{large}").status_code == 503
            started = time.monotonic()
            while client.get(f"/alerts/{large}").status_code == 503:
                assert slow.recv(8192)
                assert time.monotonic() < started + 5
                time.sleep(0.02)
            assert client.post("/alerts/bulk/resolve", json={"ids": [large]}).status_code == 200
        assert any("send buffer is full" in line["message"] for line in service.stop())


def test_clients_that_do_not_read_a_documentation_file_are_disconnected(service: ServiceProcess) -> None:
    request = b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
    with memory_released(service, 48), memory_growth_below(service, 128), requesting(service, request, 200) as unread:
        for connection in unread:
            assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        wait_until(
            lambda: not client_connections(service), 10
        )  # memory is highest shortly before they are disconnected
