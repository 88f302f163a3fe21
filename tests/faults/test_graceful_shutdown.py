"""The service receives SIGTERM under load."""

import asyncio
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.faults.load import Load
from tests.faults.nginx import running_nginx
from tests.faults.postgres import running_postgres
from tests.faults.report import ReportFault
from tests.faults.service import port_of
from tests.support.processes import ServiceProcess, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

RESTARTS = 3  # of each instance
SHUTDOWN_TIMEOUT_SECONDS = 2
GET_HEALTH = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def connect(service: ServiceProcess, data: str = "") -> socket.socket:
    """Open a connection and send this part of a request."""
    connection = socket.create_connection(("127.0.0.1", port_of(service)), timeout=5)
    connection.sendall(data.encode())
    return connection


async def wait_for_log(service: ServiceProcess, text: str, count: int) -> None:
    """Wait until the log of the service contains the text `count` times."""
    deadline = time.monotonic() + 10
    while service.log.read_text().count(text) < count:
        assert time.monotonic() < deadline, service.log.read_text()
        await asyncio.sleep(0.01)


async def test_sigterm_under_load_cuts_no_response(tmp_path: Path, report_fault: ReportFault) -> None:
    """Every change that was answered is stored, and the process exits with 0 before the shutdown timeout."""
    with running_postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        idle = connect(service, GET_HEALTH)
        async with Load(service.url) as load:
            await load.wait_for_successes(200)
            stopped_at = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.process.wait, 10) == 0
            assert time.monotonic() - stopped_at < SHUTDOWN_TIMEOUT_SECONDS
        idle.close()
        assert load.count("unknown") == 0
        report_fault("service stopped (SIGTERM)", 1, await load.check(database.dsn))


async def test_incomplete_requests_delay_the_shutdown_until_its_timeout(tmp_path: Path) -> None:
    """A request with an incomplete body is answered with 503 and logged; one with an incomplete head is closed."""
    timeout = str(SHUTDOWN_TIMEOUT_SECONDS)
    with running_postgres() as database:
        with serving(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_SHUTDOWN_TIMEOUT=timeout) as service:
            head = connect(service, "GET /health/live HTTP/1.1\r\n")
            body = connect(service, "POST /alerts HTTP/1.1\r\nX-Request-ID: the-half\r\nContent-Length: 100\r\n\r\n{")
            await asyncio.sleep(0.2)
            stopped_at = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.process.wait, 10) == 0
            seconds = time.monotonic() - stopped_at
            assert SHUTDOWN_TIMEOUT_SECONDS - 0.1 < seconds < SHUTDOWN_TIMEOUT_SECONDS + 1
        assert head.recv(100) == b""
        response = body.recv(1000)
        assert response.startswith(b"HTTP/1.1 503 ")
        assert response.endswith(
            b'{"error":"Service unavailable","detail":"the service is shutting down; the change may have been made"}'
        )
        assert b"\r\nx-request-id: the-half\r\n" in response
        assert b"retry-after" not in response
        lines = [line for line in service.lines() if line.get("request_id") == "the-half"]
        assert [(line["path"], line["status"]) for line in lines] == [("/alerts", 503)]
        head.close()
        body.close()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_connections_open_at_shutdown_are_served(tmp_path: Path, workers: str) -> None:
    """Connections that are accepted, or in the listen backlog, at SIGTERM get one more response."""
    with (
        running_postgres() as database,
        serving(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_WORKERS=workers) as service,
    ):
        await wait_for_log(service, "Application startup complete", int(workers))
        accepted = connect(service)
        incomplete = connect(service, "POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{")
        await asyncio.sleep(0.2)
        process = psutil.Process(service.process.pid)
        servers = process.children() or [process]
        for server in servers:
            server.suspend()
        process.terminate()
        await asyncio.sleep(1)
        in_backlog = [connect(service, GET_HEALTH) for _ in range(200)]
        for server in servers:
            server.resume()
        await wait_for_log(service, "Shutting down", int(workers))
        accepted.sendall(GET_HEALTH.encode())
        for connection in (accepted, *in_backlog):
            response = await asyncio.to_thread(connection.recv, 1000)
            connection.close()
            assert response.startswith(b"HTTP/1.1 200 ")
            assert connection is not accepted or b"connection: close" in response
        with pytest.raises(ConnectionRefusedError):
            connect(service)
        incomplete.sendall(b"}")
        assert incomplete.recv(1000).startswith(b"HTTP/1.1 422 ")
        incomplete.close()
        assert await asyncio.to_thread(service.process.wait, 10) == 0


async def test_rolling_restart_behind_nginx_loses_no_request(tmp_path: Path, report_fault: ReportFault) -> None:
    """No change is duplicated either."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    with running_postgres() as database, ExitStack() as stack:
        services = [stack.enter_context(serving(folder, DATABASE_URL=database.dsn)) for folder in folders]
        url = stack.enter_context(running_nginx(tmp_path, services))
        async with Load(url, clients=48, pause=0) as load:
            for _ in range(RESTARTS):
                for folder, service in zip(folders, services, strict=True):
                    await load.wait_for_successes(200)
                    await asyncio.to_thread(service.stop)
                    assert service.process.returncode == 0
                    restarted = serving(folder, port=port_of(service), DATABASE_URL=database.dsn)
                    services[services.index(service)] = await asyncio.to_thread(stack.enter_context, restarted)
            await load.wait_for_successes(200)
        assert load.count("succeeded") == len(load.requests)
        report_fault("two instances restarted in turn behind nginx", 2 * RESTARTS, await load.check(database.dsn))
