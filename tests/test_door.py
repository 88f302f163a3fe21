"""What comes in at the door of a real process: slow, endless, enormous, out of order."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from alerts_service.settings import Settings
from tests.processes import ServiceProcess, serving

HEAD = b"POST /alerts HTTP/1.1\r\nHost: alerts.test\r\nContent-Type: application/json\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: alerts.test\r\n\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    cwd = tmp_path_factory.mktemp("cwd")
    with serving(cwd, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="0.5") as process:
        yield process


class Caller:
    """A connection to the service, byte by byte."""

    def __init__(self, service: ServiceProcess) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10)
        self.stream = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: its status, headers and body."""
        status = int(self.stream.readline().split()[1])
        lines = iter(self.stream.readline, b"\r\n")
        headers = dict(line.decode().strip().split(": ", 1) for line in lines)
        return status, headers, self.stream.read(int(headers["content-length"]))

    def closed(self) -> bool:
        """Whether the service closes the connection, without another byte."""
        try:
            return self.stream.read() == b""
        except ConnectionResetError:
            return True

    def assert_refused(self, status: int, error: str, detail: str) -> None:
        """The service says why, and closes."""
        given, headers, body = self.answer()
        assert given == status, body
        assert (headers["content-type"], headers["connection"]) == ("application/json", "close")
        assert json.loads(body) == {"error": error, "detail": detail}
        assert self.closed()

    def send_on(self, data: bytes, limit: int) -> int:
        """Send the same again and again until the service has had enough, and return how many bytes it took."""
        taken = 0
        try:
            while taken < limit:
                taken += self.socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return taken


@contextmanager
def calling(service: ServiceProcess, count: int) -> Iterator[list[Caller]]:
    callers = [Caller(service) for _ in range(count)]
    yield callers
    for caller in callers:
        caller.stream.close()
        caller.socket.close()


@pytest.fixture
def caller(service: ServiceProcess) -> Iterator[Caller]:
    with calling(service, 1) as (caller,):
        yield caller


@contextmanager
def bounded(service: ServiceProcess, mib: int) -> Iterator[None]:
    """Meanwhile the memory of the service grows by so much at most."""
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    yield
    assert process.memory_info().rss - before < mib * MIB


LATE = (408, "Request timeout", "a request may take 0.5 s to come in")


@pytest.mark.parametrize(
    "part",
    [
        b"G",
        b"POST /alerts HTTP/1.1\r\nHost: alerts.test\r\nX-Half",
        HEAD + b"Content-Length: 100\r\n\r\n",
        HEAD + b'Content-Length: 100\r\n\r\n{"tenant_id"',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n",
        LIVE[:-2] + b"Content-Length: 100\r\n\r\n",
    ],
)
def test_half_a_request(caller: Caller, part: bytes) -> None:
    """A request that stops half way is refused with 408 when its time is over, and the connection closed."""
    started = time.monotonic()
    caller.send(part)
    if part.startswith(b"GET"):
        assert caller.answer()[0] == 200
        assert caller.closed()
    else:
        caller.assert_refused(*LATE)
    assert 0.4 < time.monotonic() - started < 3


def test_drops_of_a_request(caller: Caller) -> None:
    """A body that keeps coming, but too slowly, is refused all the same."""
    caller.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    started = time.monotonic()
    while time.monotonic() - started < 0.4:
        caller.send(b" ")
        time.sleep(0.05)
    caller.assert_refused(*LATE)


@pytest.mark.parametrize("nothing", [b"", b"\r\n"])
def test_no_request_at_all(caller: Caller, nothing: bytes) -> None:
    """A connection on which no request begins is closed, without a word."""
    caller.send(nothing)
    assert caller.closed()


def test_time_is_counted_for_each_request(caller: Caller) -> None:
    """A connection may stay in use for longer than a request may take."""
    for _ in range(8):
        caller.send(LIVE[:20])
        time.sleep(0.1)
        caller.send(LIVE[20:])
        assert caller.answer()[0] == 200


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"a" * 8192),
        (b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 8192),
        (b"GET / HTTP/1.1\r\n", b"X-Many: a\r\n" * 500),
        (b"", b"\r\n" * 4096),
    ],
)
def test_a_head_without_end(service: ServiceProcess, caller: Caller, start: bytes, more: bytes) -> None:
    """A request line or headers without end are cut, with 431, and nothing is kept of them."""
    with bounded(service, 8):
        caller.send(start)
        assert caller.send_on(more, 128 * MIB) < 48 * MIB  # most of it the kernels' buffers
    caller.assert_refused(431, "Head too large", "the request line and the headers may have 64 KiB")


@pytest.mark.parametrize(("before", "size", "status"), [(b"", 60, 200), (LIVE * 95, 60, 200), (b"", 70, 431)])
def test_a_long_head_at_once(caller: Caller, before: bytes, size: int, status: int) -> None:
    """What counts is the size of a head, not what came before it."""
    caller.send(before + LIVE[:-2] + b"X-Long: " + b"a" * size * 1024 + b"\r\n\r\n")
    statuses = [caller.answer()[0] for _ in range(len(before) // len(LIVE) + 1)]
    assert statuses[-1] == status


def test_what_is_no_http(caller: Caller) -> None:
    """Bytes that are no HTTP are 400 in the one shape."""
    caller.send(b"\x16\x03\x01 hello\r\n\r\n")
    caller.assert_refused(400, "Bad request", "Invalid HTTP request received.")


def test_no_http_behind_a_request(caller: Caller) -> None:
    """A good request is answered, whatever comes behind it."""
    caller.send(LIVE + b"\x16\x03\x01 hello\r\n\r\n")
    assert caller.answer()[0] == 200
    assert caller.closed()


def test_a_body_that_is_no_chunk(caller: Caller) -> None:
    """A body that breaks off into what is no HTTP is 400, and the application lets go of it."""
    caller.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\nnot a size\r\n")
    caller.assert_refused(400, "Bad request", "Invalid HTTP request received.")


def create(tenant: UUID, message: str) -> bytes:
    body = json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": message}).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_no_answer_names_the_server(caller: Caller) -> None:
    """No answer tells what software gives it."""
    caller.send(LIVE)
    assert caller.answer()[1].keys() == {"date", "content-type", "content-length", "x-request-id"}


def test_requests_that_do_not_wait(caller: Caller, tenant: UUID) -> None:
    """Requests that are sent without waiting for answers are answered each, in their order."""
    caller.send(b"".join(create(tenant, str(number)) + LIVE for number in range(40)))
    for number in range(40):
        status, _, body = caller.answer()
        assert (status, json.loads(body)["message"]) == (201, str(number))
        assert json.loads(caller.answer()[2])["status"] == "healthy"


def test_very_many_requests_that_do_not_wait(service: ServiceProcess) -> None:
    """Of thousands of requests at once a hundred and one are answered, then the connection is closed."""
    with bounded(service, 16), calling(service, 10) as callers:
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
def test_a_body_without_end(service: ServiceProcess, caller: Caller, head: bytes, status: int) -> None:
    """A body without end is answered at its first MiB or before, and the connection closed soon after."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with bounded(service, 24):
        caller.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)
        assert caller.answer()[0] == status
        assert caller.send_on(chunk, 128 * MIB) < 48 * MIB
    assert caller.closed()


def test_trailers_without_end(service: ServiceProcess, caller: Caller) -> None:
    """Headers that come behind a body are dropped, and cut when they do not end."""
    with bounded(service, 16):
        caller.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        assert caller.send_on(b"X-Service-Key: a\r\n" * 1000, 128 * MIB) < 48 * MIB


def test_callers_that_do_not_read(service: ServiceProcess, caller: Caller, tenant: UUID) -> None:
    """Callers that ask for long lists and read none of them cost little memory, and are cut off after a while."""
    for number in range(50):
        caller.send(create(tenant, str(number).zfill(10_000)))
        assert caller.answer()[0] == 201
    with bounded(service, 80), calling(service, 20) as callers:
        for idle in callers:
            idle.send(b"GET /alerts?tenant_id=%s HTTP/1.1\r\n\r\n" % str(tenant).encode() * 100)
        time.sleep(2)
        caller.send(LIVE)
        assert caller.answer()[0] == 200
        left = psutil.Process(service.process.pid).net_connections("tcp")
        assert len([each for each in left if each.raddr]) < 5 + 6  # the pool's, and this caller's


def test_half_requests_do_not_hold_up_the_end(settings: Settings, tmp_path: Path) -> None:
    """A service that is told to end does not wait for requests that stay half."""
    with serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="1") as service:
        with calling(service, 3) as callers:
            for caller, part in zip(callers, [b"", LIVE[:20], HEAD + b"Content-Length: 9\r\n\r\n"], strict=True):
                caller.send(part)
            time.sleep(0.1)
            started = time.monotonic()
            log = service.stop()
        assert time.monotonic() - started < 3
        assert service.process.returncode == 0
        assert [line["message"] for line in log if line["level"] == "ERROR"] == []
