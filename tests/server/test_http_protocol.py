"""What comes in at the door of a real process: slow, endless, enormous, out of order."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from tests.support.processes import ServiceProcess, free_port, serving
from tests.support.sockets import MIB, RawConnection, memory_growth_below, open_sockets, raw_connections

HEAD = b"POST /alerts HTTP/1.1\r\nHost: alerts.test\r\nContent-Type: application/json\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: alerts.test\r\n\r\n"


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    cwd = tmp_path_factory.mktemp("cwd")
    with serving(cwd, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="0.5") as process:
        yield process


@pytest.fixture
def caller(service: ServiceProcess) -> Iterator[RawConnection]:
    with raw_connections(service, 1) as (caller,):
        yield caller


LATE_HEAD = (408, "Request timeout", "the request line and headers must arrive within 0.5 s")
LATE_BODY = (408, "Request timeout", "the request body must arrive within 0.5 s")


HALVES = [
    b"G",
    b"POST /alerts HTTP/1.1\r\nHost: alerts.test\r\nX-Half",
    HEAD + b"Content-Length: 100\r\n\r\n",
    HEAD + b'Content-Length: 100\r\n\r\n{"tenant_id"',
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n",
]


def test_half_a_request(service: ServiceProcess) -> None:
    """A request that stops half way is refused with 408 when its time is over, and the connection closed."""
    with raw_connections(service, len(HALVES) + 1) as (answered, *callers):
        started = time.monotonic()
        answered.send(LIVE[:-2] + b"Content-Length: 100\r\n\r\n")
        for caller, part in zip(callers, HALVES, strict=True):
            caller.send(part)
        for caller, part in zip(callers, HALVES, strict=True):
            late = LATE_BODY if b"\r\n\r\n" in part else LATE_HEAD
            caller.assert_refused(*late)
        assert answered.answer()[0] == 200
        assert answered.closed()
    assert 0.4 < time.monotonic() - started < 3


def test_drops_of_a_request(caller: RawConnection) -> None:
    """A body that keeps coming, but too slowly, is refused all the same."""
    caller.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    started = time.monotonic()
    while time.monotonic() - started < 0.4:
        caller.send(b" ")
        time.sleep(0.05)
    caller.assert_refused(*LATE_BODY)


def test_a_client_that_is_still_sending_can_read_the_408(service: ServiceProcess) -> None:
    """RFC 9112, section 9.6: closing the connection at once could discard the response."""
    with raw_connections(service, 1) as (caller,):
        caller.send(HEAD + b"Content-Length: 1000000\r\n\r\n")
        caller.stream.peek(1)
        caller.send(b" " * 500_000)
        caller.assert_refused(*LATE_BODY)


def test_a_body_behind_an_early_response_keeps_the_connection_open(caller: RawConnection, tenant: UUID) -> None:
    head, _, body = create(tenant, "m").replace(b"/alerts", b"/internal/alerts").partition(b"\r\n\r\n")
    caller.send(head + b"\r\n\r\n")
    assert caller.answer()[0] == 401
    caller.send(body[:10])
    time.sleep(0.1)
    caller.send(body[10:] + LIVE)
    assert caller.answer()[0] == 200


@pytest.mark.anyio
async def test_the_time_of_a_body_begins_after_the_responses_to_the_requests_before_it(
    caller: RawConnection, settings: Settings, tenant: UUID
) -> None:
    connection = await asyncpg.connect(settings.database_url)
    last = create(tenant, "last")
    async with connection.transaction():
        await connection.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        caller.send(create(tenant, "waits for the lock") * 4 + last[:-10])
        statuses = [(await asyncio.to_thread(caller.answer))[0] for _ in range(4)]
        assert time.monotonic() - started > 0.8  # the request timeout is 0.5 s
    caller.send(last[-10:])
    await connection.close()
    assert statuses == [503] * 4
    assert caller.answer()[0] == 201


def test_no_request_at_all(service: ServiceProcess) -> None:
    """A connection on which no request begins is closed, without a word."""
    with raw_connections(service, 2) as (silent, blank):
        blank.send(b"\r\n")
        assert silent.closed()
        assert blank.closed()


def test_time_is_counted_for_each_request(caller: RawConnection) -> None:
    """A connection may stay in use for longer than a request may take."""
    for _ in range(6):
        caller.send(LIVE[:20])
        time.sleep(0.1)
        caller.send(LIVE[20:])
        assert caller.answer()[0] == 200


ENDLESS = [
    (b"GET /", b"a" * 8192),
    (b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 8192),
    (b"GET / HTTP/1.1\r\n", b"X-Many: a\r\n" * 500),
    (b"", b"\r\n" * 4096),
]
TOO_LONG = (431, "Head too large", "the request line and headers must not exceed 64 KiB")


def test_a_head_without_end(service: ServiceProcess) -> None:
    """A request line or headers without end are cut, with 431, and nothing is kept of them."""

    def send_on(start: bytes, more: bytes) -> None:
        with raw_connections(service, 1) as (caller,):
            caller.send(start)
            assert caller.send_on(more, 128 * MIB) < 48 * MIB  # most of it the kernels' buffers
            caller.assert_refused(*TOO_LONG)

    with memory_growth_below(service, 16), ThreadPoolExecutor() as pool:
        list(pool.map(send_on, *zip(*ENDLESS, strict=True)))


@pytest.mark.parametrize(("before", "over", "status"), [(b"", 0, 200), (LIVE * 95, 0, 200), (b"", 1, 431)])
def test_a_long_head_at_once(caller: RawConnection, before: bytes, over: int, status: int) -> None:
    """A head may have 64 KiB and not one byte more, whatever came before it."""
    head = LIVE[:-2] + b"X-Many: a\r\n" * 3000 + b"X-Long: \r\n\r\n"
    caller.send(before + head[:-4] + b"a" * (64 * 1024 + over - len(head)) + head[-4:])
    statuses = [caller.answer()[0] for _ in range(len(before) // len(LIVE) + 1)]
    assert statuses[-1] == status


NO_PROXY = (400, "Bad request", "CONNECT is not supported; GET, HEAD, OPTIONS, POST and PUT are")
NO_HTTP = (400, "Bad request", "malformed HTTP request; HTTP/1.0 and HTTP/1.1 are accepted")


@pytest.mark.parametrize("what", [b"\x16\x03\x01 hello\r\n\r\n", b"GET http://a HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("pause", [0, 0.2])
def test_no_http_behind_a_request(caller: RawConnection, tenant: UUID, what: bytes, pause: float) -> None:
    """A good request is answered, whatever comes behind it, and whenever."""
    if pause:
        caller.send(create(tenant, "first"))
        assert caller.answer()[0] == 201
    caller.send(create(tenant, "message") + what)
    assert caller.answer()[0] == 201
    assert caller.closed()


@pytest.mark.anyio
async def test_no_http_behind_a_request_that_waits(caller: RawConnection, settings: Settings, tenant: UUID) -> None:
    """A request whose alert is being recorded is answered for that, and not for what comes behind it."""
    connection = await asyncpg.connect(settings.database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
    caller.send(create(tenant, "message"))
    await asyncio.sleep(0.1)
    caller.send(b"GET http://a HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.05)
    await transaction.rollback()
    await connection.close()
    assert caller.answer()[0] == 201
    assert caller.closed()


OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("pause", [0, 0.1])
def test_an_offer_of_another_protocol(caller: RawConnection, tenant: UUID, offer: bytes, pause: float) -> None:
    """A request that offers another protocol is answered by this one, with its body; and so is what comes after it."""
    head, _, body = create(tenant, "message").partition(b"\r\n\r\n")
    caller.send(head + b"\r\n" + offer + b"\r\n")
    time.sleep(pause)
    caller.send(body + LIVE[:-2] + offer + b"\r\n" + LIVE)
    assert (caller.answer()[0], caller.answer()[0], caller.answer()[0]) == (201, 200, 200)


CHUNK = b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n"


@pytest.mark.parametrize(
    ("parts", "refusal", "known"),
    [
        ([b"\x16\x03\x01 hello\r\n\r\n"], NO_HTTP, ("", "")),
        ([b"GET /stats/1?secret HTTP/1.1\r\nno colon\r\n\r\n"], NO_HTTP, ("GET", "/stats/1")),
        ([HEAD + CHUNK + b"no size\r\n"], NO_HTTP, ("POST", "/alerts")),
        ([HEAD + CHUNK, b"no size\r\n"], NO_HTTP, ("POST", "/alerts")),
        ([b"\r\n" * 40_000], TOO_LONG, ("", "")),
        ([HEAD, b"X-Long: " + b"a" * 70_000], TOO_LONG, ("POST", "/alerts")),
        ([HEAD + b"X-Half"], LATE_HEAD, ("POST", "/alerts")),
        ([HEAD + CHUNK], LATE_BODY, ("POST", "/alerts")),
        ([b"GET http://a HTTP/1.1\r\n\r\n"], NO_HTTP, ("GET", "http://a")),
        ([b"GET http://a:99999/ HTTP/1.1\r\n\r\n"], NO_HTTP, ("GET", "http://a:99999/")),
        ([b"CONNECT a:1 HTTP/1.1\r\n\r\n"], NO_PROXY, ("CONNECT", "a:1")),
    ],
)
def test_what_is_refused_is_logged(
    service: ServiceProcess,
    caller: RawConnection,
    parts: list[bytes],
    refusal: tuple[int, str, str],
    known: tuple[str, str],
) -> None:
    """A request that is refused before it is whole has an id, and one line in the log says what is known of it."""
    for part in parts:
        caller.send(part)
        time.sleep(0.05)
    id_ = caller.assert_refused(*refusal)
    lines: list[dict[str, Any]] = []
    deadline = time.monotonic() + 5
    while not lines and time.monotonic() < deadline:
        time.sleep(0.1)
        lines = [line for line in service.lines() if line.get("request_id") == id_]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [(*known, refusal[0])]


def test_a_refusal_carries_the_callers_request_id(caller: RawConnection) -> None:
    """What is refused half way carries the request id of its caller, if that has come in already."""
    caller.send(HEAD.replace(b"Host", b"X-Request-ID: call-42\r\nHost") + b"no colon\r\n\r\n")
    assert caller.assert_refused(*NO_HTTP) == "call-42"


def create(tenant: UUID, message: str) -> bytes:
    body = json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": message}).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_no_answer_names_the_server(caller: RawConnection) -> None:
    """No answer tells what software gives it."""
    caller.send(LIVE)
    common = {"x-content-type-options", "cache-control", "x-request-id"}
    assert caller.answer()[1].keys() == {"date", "content-type", "content-length"} | common


def test_requests_that_do_not_wait(caller: RawConnection, tenant: UUID) -> None:
    """Requests that are sent without waiting for answers are answered each, in their order."""
    caller.send(b"".join(create(tenant, str(number)) + LIVE for number in range(40)))
    for number in range(40):
        status, _, body = caller.answer()
        assert (status, json.loads(body)["message"]) == (201, str(number))
        assert json.loads(caller.answer()[2])["status"] == "healthy"


def test_very_many_requests_that_do_not_wait(service: ServiceProcess) -> None:
    """Of thousands of requests at once a hundred and one are answered, then the connection is closed."""
    with memory_growth_below(service, 16), raw_connections(service, 10) as callers:
        for caller in callers:
            caller.send(LIVE.replace(b"Host: alerts.test\r\n", b"") * 4000)
        for caller in callers:
            headers = [caller.answer()[1] for _ in range(101)]
            assert [number for number, given in enumerate(headers) if "connection" in given] == [100]
            assert caller.closed()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD, 413),
        (HEAD.replace(b"/alerts", b"/internal/alerts"), 401),
        (LIVE[:-2], 200),
    ],
)
def test_a_body_without_end(service: ServiceProcess, caller: RawConnection, head: bytes, status: int) -> None:
    """A body without end is answered at its first MiB or before, and the connection closed soon after."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with memory_growth_below(service, 24):
        caller.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)
        assert caller.answer()[0] == status
        assert caller.send_on(chunk, 128 * MIB) < 48 * MIB
    assert caller.closed()


def test_many_bodies_that_come_in(settings: Settings, tmp_path: Path) -> None:
    """While half bodies take up the room for them one more is refused, and none when they are gone."""
    most = b"Content-Length: 1000000\r\n\r\n" + b" " * 990_000
    with serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="3") as service:
        with memory_growth_below(service, 160), raw_connections(service, 100) as callers:
            for caller in callers:
                caller.send(HEAD + most)
            time.sleep(0.5)
            with raw_connections(service, 1) as (late,):
                late.send(HEAD + most)
                status, headers, body = late.answer()
            assert (status, headers["retry-after"], json.loads(body)["detail"]) == (
                503,
                "1",
                "the buffer for request bodies is full (64 MiB)",
            )
        time.sleep(0.5)
        with raw_connections(service, 1) as (after,):
            after.send(HEAD + most + b" " * 10_000)
            assert after.answer()[0] == 422


def test_trailers(caller: RawConnection) -> None:
    """Headers that come behind a body do not count."""
    key = b"X-Service-Key: %s\r\n" % PUBLISHED_SERVICE_KEY.encode()
    head = HEAD.replace(b"/alerts", b"/internal/alerts") + b"Transfer-Encoding: chunked\r\n"
    caller.send(head + key + b"\r\n2\r\n{}\r\n0\r\n\r\n" + head + b"\r\n2\r\n{}\r\n0\r\n" + key + b"\r\n")
    assert [caller.answer()[0] for _ in range(2)] == [422, 401]


def test_trailers_without_end(service: ServiceProcess, caller: RawConnection) -> None:
    """Headers that come behind a body are dropped, and cut when they do not end."""
    with memory_growth_below(service, 16):
        caller.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        assert caller.send_on(b"X-Service-Key: a\r\n" * 1000, 128 * MIB) < 48 * MIB


def test_callers_that_do_not_read(service: ServiceProcess, caller: RawConnection, tenant: UUID) -> None:
    """Callers that ask for long lists and read none of them cost little memory, and are cut off after a while."""
    for number in range(50):
        caller.send(create(tenant, str(number).zfill(10_000)))
        assert caller.answer()[0] == 201
    with memory_growth_below(service, 80), raw_connections(service, 20) as callers:
        for idle in callers:
            idle.send(b"GET /alerts?tenant_id=%s HTTP/1.1\r\n\r\n" % str(tenant).encode() * 100)
        caller.send(LIVE)
        assert caller.answer()[0] == 200
        deadline = time.monotonic() + 10
        while len(open_sockets(service)) > 6 + 1:  # the pools', and this caller's
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_stream_over_http_1_0_is_not_chunked(caller: RawConnection, tenant: UUID) -> None:
    """RFC 9112, section 6.1: without chunked encoding the end of the connection is the end of the response."""
    lines = [json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": "m" * n}) for n in range(1, 3001)]
    body = "\n".join(lines).encode()
    head = b"POST /alerts/bulk HTTP/1.0\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(caller.send, head % len(body) + body)
        answer, _, results = caller.stream.read().partition(b"\r\n\r\n")
        sent.result()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer.lower()
    assert b"transfer-encoding" not in answer.lower()
    assert [json.loads(line)["status"] for line in results.splitlines()] == [201] * 3000


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /health/live", 200), ("HEAD /health/live", 200), ("GET /nope", 404), ("OPTIONS /alerts", 204)],
)
@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
def test_other_responses_over_http_1_0(caller: RawConnection, request_line: str, status: int, connection: str) -> None:
    caller.send(f"{request_line} HTTP/1.0\r\n{connection}\r\n".encode())
    answer, _, body = caller.stream.read().partition(b"\r\n\r\n")
    assert int(answer.split()[1]) == status
    assert b"transfer-encoding" not in answer.lower()
    if request_line.startswith("GET"):
        assert b"content-length: %d\r\n" % len(body) in answer + b"\r\n"
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
def test_a_stream_through_a_proxy_that_speaks_http_1_0(service: ServiceProcess, tmp_path: Path, tenant: UUID) -> None:
    port, configuration = free_port(), tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=tmp_path, port=port, url=service.url))
    command = ["nginx", "-c", str(configuration), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    with subprocess.Popen(command) as nginx:
        try:
            line = json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": "m"})
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=10)) as client:
                response = client.post(
                    "/alerts/bulk", content="\n".join([line] * 500), headers={"Content-Type": "application/x-ndjson"}
                )
        finally:
            nginx.terminate()
    assert [json.loads(result)["status"] for result in response.text.splitlines()] == [201] * 500


def test_half_requests_do_not_hold_up_the_end(settings: Settings, tmp_path: Path) -> None:
    """A service that is told to end does not wait for requests that stay half."""
    with serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="0.3") as service:
        with raw_connections(service, 3) as callers:
            for caller, part in zip(callers, [b"", LIVE[:20], HEAD + b"Content-Length: 9\r\n\r\n"], strict=True):
                caller.send(part)
            time.sleep(0.1)
            started = time.monotonic()
            log = service.stop()
        assert time.monotonic() - started < 3
        assert service.process.returncode == 0
        assert [line["message"] for line in log if line["level"] == "ERROR"] == []
