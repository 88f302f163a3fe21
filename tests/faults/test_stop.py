"""The service is told to stop, under load."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.postgres import postgres
from tests.support.processes import ServiceProcess, free_port, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

ROUNDS = 3
GRACE = 2
NGINX = Path(__file__).with_name("nginx.conf")


def port(service: ServiceProcess) -> int:
    return int(service.url.rpartition(":")[2])


def connected(service: ServiceProcess, request: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port(service)), timeout=5)
    connection.sendall(request.encode())
    return connection


async def said(service: ServiceProcess, words: str, times: int) -> None:
    deadline = time.monotonic() + 10
    while service.log.read_text().count(words) < times:
        assert time.monotonic() < deadline, service.log.read_text()
        await asyncio.sleep(0.01)


async def test_a_stop_under_load(tmp_path: Path, report: Report) -> None:
    """Whatever was answered is there, no answer is cut, and the process ends with 0 long before its grace is over."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        idle = connected(service, "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        async with Load(service.url) as load:
            await load.wait_for_successes(200)
            stopped = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.process.wait, 10) == 0
            assert time.monotonic() - stopped < GRACE
        idle.close()
        assert load.count("unknown") == 0
        report("service stopped (SIGTERM)", 1, await load.check(database.dsn))


async def test_a_stop_with_half_a_request(tmp_path: Path) -> None:
    """Half a head and half a body hold a stop up for no longer than its grace; what can be answered is, and logged."""
    grace = str(GRACE)
    with postgres() as database:
        with serving(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_SHUTDOWN_TIMEOUT=grace) as service:
            head = connected(service, "GET /health/live HTTP/1.1\r\n")
            body = connected(service, "POST /alerts HTTP/1.1\r\nX-Request-ID: the-half\r\nContent-Length: 100\r\n\r\n{")
            await asyncio.sleep(0.2)
            stopped = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.process.wait, 10) == 0
            assert GRACE - 0.1 < time.monotonic() - stopped < GRACE + 1
        assert head.recv(100) == b""
        answer = body.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(
            b'{"error":"Service unavailable","detail":"the service stops; a change may still have been made"}'
        )
        assert b"\r\nx-request-id: the-half\r\n" in answer
        assert b"retry-after" not in answer
        lines = [line for line in service.lines() if line.get("request_id") == "the-half"]
        assert [(line["path"], line["status"]) for line in lines] == [("/alerts", 503)]
        head.close()
        body.close()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_who_was_connected_is_served(tmp_path: Path, workers: str) -> None:
    """A connection that is accepted or waits for it when the stop comes has its request answered, as its last one."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_WORKERS=workers) as service:
        await said(service, "Application startup complete", int(workers))
        accepted = connected(service, "")
        half = connected(service, "POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{")
        await asyncio.sleep(0.2)
        process = psutil.Process(service.process.pid)
        servers = process.children() or [process]
        for server in servers:
            server.suspend()
        process.terminate()
        await asyncio.sleep(1)
        waiting = [connected(service, "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(200)]
        for server in servers:
            server.resume()
        await said(service, "Shutting down", int(workers))
        accepted.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        for connection in (accepted, *waiting):
            answer = await asyncio.to_thread(connection.recv, 1000)
            connection.close()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert connection is not accepted or b"connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            connected(service, "")
        half.sendall(b"}")
        assert half.recv(1000).startswith(b"HTTP/1.1 422 ")
        half.close()
        assert await asyncio.to_thread(service.process.wait, 10) == 0


@contextmanager
def nginx(folder: Path, services: list[ServiceProcess]) -> Iterator[str]:
    listen, configuration = free_port(), folder / "nginx.conf"
    text = NGINX.read_text().replace("http {", f"http {{ access_log off; client_body_temp_path {folder};")
    for address, number in zip((":3101", ":3102", ":8080"), (*map(port, services), listen), strict=True):
        assert text.count(address) == 1
        text = text.replace(address, f":{number}")
    configuration.write_text(text)
    foreground = ("-g", f"daemon off; master_process off; pid {folder}/pid;")
    process = subprocess.Popen(
        ["nginx", "-c", configuration, "-p", folder, "-e", folder / "error.log", *foreground], stderr=subprocess.DEVNULL
    )
    url, deadline = f"http://127.0.0.1:{listen}", time.monotonic() + 10
    try:
        while not answers(url):
            assert time.monotonic() < deadline, (folder / "error.log").read_text()
            time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", verify=False).status_code == 200
    except httpx.TransportError:
        return False


async def test_restarts_behind_a_balancer(tmp_path: Path, report: Report) -> None:
    """Two processes restarted one after the other behind nginx answer every request, and double none."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    with postgres() as database, ExitStack() as stack:
        services = [stack.enter_context(serving(folder, DATABASE_URL=database.dsn)) for folder in folders]
        url = stack.enter_context(nginx(tmp_path, services))
        async with Load(url, clients=48, pause=0) as load:
            for _ in range(ROUNDS):
                for folder, service in zip(folders, services, strict=True):
                    await load.wait_for_successes(200)
                    await asyncio.to_thread(service.stop)
                    assert service.process.returncode == 0
                    again = serving(folder, port=port(service), DATABASE_URL=database.dsn)
                    services[services.index(service)] = await asyncio.to_thread(stack.enter_context, again)
            await load.wait_for_successes(200)
        assert load.count("succeeded") == len(load.requests)
        report("two instances restarted in turn behind nginx", 2 * ROUNDS, await load.check(database.dsn))
