"""The HTTP protocol of the server: malformed requests, upgrades, pipelining, trailers, HTTP/1.0 and the log."""

import asyncio
import json
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from tests.server.requests import BODY_TIMEOUT, HEAD, HEAD_TIMEOUT, HEAD_TOO_LARGE, LIVE_REQUEST, create_request
from tests.support.api import alert_body
from tests.support.processes import ServiceProcess, free_port
from tests.support.sockets import RawConnection, memory_growth_below, raw_connections


def test_a_body_behind_an_early_response_keeps_the_connection_open(connection: RawConnection, tenant: UUID) -> None:
    head, _, body = create_request(tenant, "m").replace(b"/alerts", b"/internal/alerts").partition(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n")
    assert connection.answer()[0] == 401
    connection.send(body[:10])
    time.sleep(0.1)
    connection.send(body[10:] + LIVE_REQUEST)
    assert connection.answer()[0] == 200


CONNECT_REJECTED = (400, "Bad request", "CONNECT is not supported; GET, HEAD, OPTIONS, POST and PUT are")
MALFORMED = (400, "Bad request", "malformed HTTP request; HTTP/1.0 and HTTP/1.1 are accepted")


@pytest.mark.parametrize("malformed", [b"\x16\x03\x01 hello\r\n\r\n", b"GET http://a HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("pause", [0, 0.2])
def test_a_request_before_malformed_data_is_answered(
    connection: RawConnection, tenant: UUID, malformed: bytes, pause: float
) -> None:
    if pause:
        connection.send(create_request(tenant, "first"))
        assert connection.answer()[0] == 201
    connection.send(create_request(tenant, "message") + malformed)
    assert connection.answer()[0] == 201
    assert connection.closed()


@pytest.mark.anyio
async def test_malformed_data_during_a_statement_does_not_change_the_response(
    connection: RawConnection, settings: Settings, tenant: UUID
) -> None:
    locker = await asyncpg.connect(settings.database_url)
    transaction = locker.transaction()
    await transaction.start()
    await locker.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
    connection.send(create_request(tenant, "message"))
    await asyncio.sleep(0.1)
    connection.send(b"GET http://a HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.05)
    await transaction.rollback()
    await locker.close()
    assert connection.answer()[0] == 201
    assert connection.closed()


UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("pause", [0, 0.1])
def test_an_upgrade_is_ignored_and_the_request_is_answered(
    connection: RawConnection, tenant: UUID, upgrade: bytes, pause: float
) -> None:
    """Its body is read, and the next request of the connection is answered as well."""
    head, _, body = create_request(tenant, "message").partition(b"\r\n\r\n")
    connection.send(head + b"\r\n" + upgrade + b"\r\n")
    time.sleep(pause)
    connection.send(body + LIVE_REQUEST[:-2] + upgrade + b"\r\n" + LIVE_REQUEST)
    assert (connection.answer()[0], connection.answer()[0], connection.answer()[0]) == (201, 200, 200)


CHUNK = b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n"


@pytest.mark.parametrize(
    ("parts", "error", "logged_request"),
    [
        ([b"\x16\x03\x01 hello\r\n\r\n"], MALFORMED, ("", "")),
        ([b"GET /stats/1?secret HTTP/1.1\r\nno colon\r\n\r\n"], MALFORMED, ("GET", "/stats/1")),
        ([HEAD + CHUNK + b"no size\r\n"], MALFORMED, ("POST", "/alerts")),
        ([HEAD + CHUNK, b"no size\r\n"], MALFORMED, ("POST", "/alerts")),
        ([b"\r\n" * 40_000], HEAD_TOO_LARGE, ("", "")),
        ([HEAD, b"X-Long: " + b"a" * 70_000], HEAD_TOO_LARGE, ("POST", "/alerts")),
        ([HEAD + b"X-Half"], HEAD_TIMEOUT, ("POST", "/alerts")),
        ([HEAD + CHUNK], BODY_TIMEOUT, ("POST", "/alerts")),
        ([b"GET http://a HTTP/1.1\r\n\r\n"], MALFORMED, ("GET", "http://a")),
        ([b"GET http://a:99999/ HTTP/1.1\r\n\r\n"], MALFORMED, ("GET", "http://a:99999/")),
        ([b"CONNECT a:1 HTTP/1.1\r\n\r\n"], CONNECT_REJECTED, ("CONNECT", "a:1")),
    ],
)
def test_a_rejected_incomplete_request_is_logged_once_with_its_id(
    service: ServiceProcess,
    connection: RawConnection,
    parts: list[bytes],
    error: tuple[int, str, str],
    logged_request: tuple[str, str],
) -> None:
    """The line contains the method and path as far as they arrived."""
    for part in parts:
        connection.send(part)
        time.sleep(0.05)
    request_id = connection.assert_refused(*error)
    lines: list[dict[str, Any]] = []
    deadline = time.monotonic() + 5
    while not lines and time.monotonic() < deadline:
        time.sleep(0.1)
        lines = [line for line in service.lines() if line.get("request_id") == request_id]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [(*logged_request, error[0])]


def test_an_error_response_to_an_incomplete_request_has_the_request_id_of_the_client(connection: RawConnection) -> None:
    connection.send(HEAD.replace(b"Host", b"X-Request-ID: call-42\r\nHost") + b"no colon\r\n\r\n")
    assert connection.assert_refused(*MALFORMED) == "call-42"


def test_responses_do_not_name_the_server_software(connection: RawConnection) -> None:
    connection.send(LIVE_REQUEST)
    common = {"x-content-type-options", "cache-control", "x-request-id"}
    assert connection.answer()[1].keys() == {"date", "content-type", "content-length"} | common


def test_pipelined_requests_are_answered_in_order(connection: RawConnection, tenant: UUID) -> None:
    connection.send(b"".join(create_request(tenant, str(number)) + LIVE_REQUEST for number in range(40)))
    for number in range(40):
        status, _, body = connection.answer()
        assert (status, json.loads(body)["message"]) == (201, str(number))
        assert json.loads(connection.answer()[2])["status"] == "healthy"


def test_a_connection_is_closed_after_101_pipelined_requests(service: ServiceProcess) -> None:
    with memory_growth_below(service, 16), raw_connections(service, 10) as connections:
        for connection in connections:
            connection.send(LIVE_REQUEST.replace(b"Host: alerts.test\r\n", b"") * 4000)
        for connection in connections:
            headers = [connection.answer()[1] for _ in range(101)]
            assert [number for number, fields in enumerate(headers) if "connection" in fields] == [100]
            assert connection.closed()


def test_trailers_are_not_used_as_headers(connection: RawConnection) -> None:
    key = b"X-Service-Key: %s\r\n" % PUBLISHED_SERVICE_KEY.encode()
    head = HEAD.replace(b"/alerts", b"/internal/alerts") + b"Transfer-Encoding: chunked\r\n"
    connection.send(head + key + b"\r\n2\r\n{}\r\n0\r\n\r\n" + head + b"\r\n2\r\n{}\r\n0\r\n" + key + b"\r\n")
    assert [connection.answer()[0] for _ in range(2)] == [422, 401]


def test_a_stream_over_http_1_0_is_not_chunked(connection: RawConnection, tenant: UUID) -> None:
    """Without chunked encoding the response ends with the connection (RFC 9112, section 6.1)."""
    lines = [json.dumps(alert_body(tenant, message="m" * n)) for n in range(1, 3001)]
    body = "\n".join(lines).encode()
    head = b"POST /alerts/bulk HTTP/1.0\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(connection.send, head % len(body) + body)
        response_head, _, results = connection.stream.read().partition(b"\r\n\r\n")
        sending.result()
    assert response_head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in response_head.lower()
    assert b"transfer-encoding" not in response_head.lower()
    assert [json.loads(line)["status"] for line in results.splitlines()] == [201] * 3000


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /health/live", 200), ("HEAD /health/live", 200), ("GET /nope", 404), ("OPTIONS /alerts", 204)],
)
@pytest.mark.parametrize("connection_header", ["", "Connection: keep-alive\r\n"])
def test_other_responses_over_http_1_0(
    connection: RawConnection, request_line: str, status: int, connection_header: str
) -> None:
    connection.send(f"{request_line} HTTP/1.0\r\n{connection_header}\r\n".encode())
    response_head, _, body = connection.stream.read().partition(b"\r\n\r\n")
    assert int(response_head.split()[1]) == status
    assert b"transfer-encoding" not in response_head.lower()
    if request_line.startswith("GET"):
        assert b"content-length: %d\r\n" % len(body) in response_head + b"\r\n"
    else:
        assert body == b""


NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {url};
            proxy_http_version 1.0;
        }}
    }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_a_stream_passes_a_proxy_that_uses_http_1_0(service: ServiceProcess, tmp_path: Path, tenant: UUID) -> None:
    port, configuration = free_port(), tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=tmp_path, port=port, url=service.url))
    command = ["nginx", "-c", str(configuration), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    with subprocess.Popen(command) as nginx:
        try:
            line = json.dumps(alert_body(tenant))
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=10)) as client:
                response = client.post(
                    "/alerts/bulk", content="\n".join([line] * 500), headers={"Content-Type": "application/x-ndjson"}
                )
        finally:
            nginx.terminate()
    assert [json.loads(result)["status"] for result in response.text.splitlines()] == [201] * 500
