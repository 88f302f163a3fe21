"""Streams of alerts to a real process: a line in, a line out, however many there are and whatever becomes of them."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from tests.support.processes import ServiceProcess, serving
from tests.support.sockets import RawConnection, memory_growth_below, open_sockets, raw_connections
from tests.support.tokens import JWT_SECRET, sign_token

KIB = 1024
HEAD = b"POST /alerts/bulk HTTP/1.1\r\nHost: alerts.test\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DETAIL = "line: must be at most 64 KiB; the lines after it are not processed"
TOO_LONG = {"status": 413, "error": {"error": "Line too long", "detail": DETAIL}}


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    cwd = tmp_path_factory.mktemp("cwd")
    with serving(cwd, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="1") as process:
        yield process


@pytest.fixture
def caller(service: ServiceProcess) -> Iterator[RawConnection]:
    with raw_connections(service, 1) as (caller,):
        yield caller


def line(tenant: UUID, message: str = "m") -> bytes:
    return json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": message}).encode() + b"\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(data: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(data) + data


class Answers:
    """The results of a stream as they come, behind the head of the answer, which is read first."""

    def __init__(self, caller: RawConnection) -> None:
        self.stream = caller.stream
        self.status = int(self.stream.readline().split()[1])
        self.headers = dict(it.decode().strip().split(": ", 1) for it in iter(self.stream.readline, b"\r\n"))
        self.ended = False

    def next(self) -> list[dict[str, Any]]:
        """Read the results that came together; none at the end, whether that was announced or not."""
        size = int(self.stream.readline() or b"0", 16)
        lines = self.stream.read(size).splitlines()
        self.ended = size == 0 and self.stream.readline() == b"\r\n"
        if size:
            self.stream.readline()
        return [json.loads(line) for line in lines]

    def all(self) -> list[dict[str, Any]]:
        results = []
        while some := self.next():
            results += some
        return results


def kept(settings: Settings, tenant: UUID) -> dict[str, str]:
    """The ids of a tenant's alerts by their messages."""

    async def read() -> dict[str, str]:
        connection = await asyncpg.connect(settings.database_url)
        rows = await connection.fetch("SELECT message, id FROM alerts WHERE tenant_id = $1", tenant)
        await connection.close()
        return {row["message"]: str(row["id"]) for row in rows}

    return asyncio.run(read())


def test_a_line_each(caller: RawConnection, settings: Settings, tenant: UUID) -> None:
    """Each line is answered by a line, in their order; a broken one spoils only itself, and the last need not end."""
    lines = [line(tenant, "a"), b"{\n", b" \n", b'{"tenant_id":1}\r\n', line(tenant, "b")[:-1] + b"\r\n", b"\xff\n"]
    caller.send(whole(b"".join(lines) + line(tenant, "c")[:-1]))
    answers = Answers(caller)
    assert (answers.status, answers.headers["content-type"]) == (200, "application/x-ndjson")
    results = answers.all()
    assert answers.ended
    assert [result["status"] for result in results] == [201, 422, 422, 422, 201, 422, 201]
    assert kept(settings, tenant) == {"a": results[0]["id"], "b": results[4]["id"], "c": results[6]["id"]}
    assert results[2]["error"]["detail"] == "body: must not be empty"
    assert results[3]["error"] == {"error": "Validation error", "detail": "tenant_id: must be a UUID, not a number"}
    assert results[0].keys() == {"status", "id"}


def test_no_line_at_all(caller: RawConnection, tenant: UUID) -> None:
    """A stream without a line is answered by one, and the connection stays in use."""
    caller.send(whole(b"") + whole(line(tenant)))
    assert Answers(caller).all() == []
    assert [result["status"] for result in Answers(caller).all()] == [201]


def test_each_stream_has_its_own_head(caller: RawConnection, tenant: UUID) -> None:
    """The head of an answer holds nothing of the streams before it."""
    for _ in range(3):
        caller.send(whole(line(tenant), HEAD + b"X-Request-ID: mine\r\n"))
        head = b"".join(iter(caller.stream.readline, b"\r\n")).lower()
        assert head.count(b"\r\nx-request-id: ") == head.count(b"\r\ncontent-type: ") == 1
        while int(caller.stream.readline() or b"0", 16):
            caller.stream.readline()
            caller.stream.readline()
        caller.stream.readline()


def test_lines_that_come_in_pieces(caller: RawConnection, settings: Settings, tenant: UUID) -> None:
    """However the bytes of a stream are cut, its lines are the same."""
    data = b"".join(line(tenant, f"é{number}") for number in range(20))
    caller.send(CHUNKED)
    for start in range(0, len(data), 7):
        caller.send(chunk(data[start : start + 7]))
    caller.send(END)
    assert [result["status"] for result in Answers(caller).all()] == [201] * 20
    assert kept(settings, tenant).keys() == {f"é{number}" for number in range(20)}


async def test_time_that_the_database_takes_is_not_the_callers(
    service: ServiceProcess, caller: RawConnection, settings: Settings, tenant: UUID
) -> None:
    """A caller who waits for answers for longer than a line may take is not cut off; the log says what was wrong."""
    connection = await asyncpg.connect(settings.database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE alert_counts IN EXCLUSIVE MODE")
        caller.send(CHUNKED + chunk(line(tenant) * 250))
        started = time.monotonic()
        answers = await asyncio.to_thread(Answers, caller)
        results = answers.next()
        assert time.monotonic() - started > 1.2
        assert {result["status"] for result in results} == {503}
    await connection.close()
    caller.send(chunk(line(tenant)) + END)
    assert [result["status"] for result in answers.all()] == [201]
    await asyncio.sleep(0.2)
    (said,) = [it for it in service.lines() if it.get("request_id") == answers.headers["x-request-id"]]
    assert said["reason"] in {
        "could not lock the alert in time",
        "timed out waiting for the database",
    }


def test_a_line_is_answered_while_the_next_is_awaited(caller: RawConnection, tenant: UUID) -> None:
    """A stream may last for longer than a request, line by line, and is cut when nothing comes for as long as that."""
    caller.send(CHUNKED + chunk(line(tenant)))
    answers = Answers(caller)
    assert [result["status"] for result in answers.next()] == [201]
    started = time.monotonic()
    while time.monotonic() - started < 1.6:
        time.sleep(0.4)
        caller.send(chunk(line(tenant)))
        assert [result["status"] for result in answers.next()] == [201]
    silent = time.monotonic()
    late = {"error": "Request timeout", "detail": "the next line must arrive within 1 s"}
    assert answers.next() == [{"status": 408, "error": late}]
    assert answers.next() == []
    assert answers.ended
    assert caller.closed()
    assert 0.5 < time.monotonic() - silent < 3


def test_a_malformed_chunk_ends_the_stream_with_400(
    service: ServiceProcess, caller: RawConnection, tenant: UUID
) -> None:
    caller.send(CHUNKED + chunk(line(tenant)))
    answers = Answers(caller)
    assert [result["status"] for result in answers.next()] == [201]
    caller.send(b"no size\r\n")
    (last,) = answers.all()
    assert (last["status"], last["error"]["error"]) == (400, "Bad request")
    assert answers.ended
    assert caller.closed()
    assert [it for it in service.lines() if "exc_info" in it] == []


@pytest.mark.parametrize("first", [b"", b"x"])
def test_a_stream_that_never_begins(caller: RawConnection, first: bytes) -> None:
    """A stream whose first line does not come in time is 408."""
    caller.send(CHUNKED + (chunk(first) if first else b""))
    caller.assert_refused(408, "Request timeout", "the next line must arrive within 1 s")


def test_drops_of_a_line(caller: RawConnection, tenant: UUID) -> None:
    """A line that keeps coming, but too slowly, is cut all the same."""
    caller.send(CHUNKED + chunk(line(tenant)))
    answers = Answers(caller)
    assert len(answers.next()) == 1
    started = time.monotonic()
    try:
        while time.monotonic() - started < 5:
            caller.send(chunk(b" "))
            time.sleep(0.05)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("end", [b"", b"\n" + b"{}\n" * 1000])
def test_a_long_line(caller: RawConnection, settings: Settings, tenant: UUID, end: bytes) -> None:
    """A line of more than 64 KiB ends the stream, which says so; what came before it is recorded and answered."""
    fits = line(tenant, "a").rstrip().ljust(64 * KIB) + b"\n"
    caller.send(whole(fits + line(tenant, "b") + b" " * (64 * KIB + 1) + end))
    answers = Answers(caller)
    results = answers.all()
    assert answers.ended
    assert [result["status"] for result in results] == [201, 201, 413]
    assert results[-1] == TOO_LONG
    assert kept(settings, tenant).keys() == {"a", "b"}


def test_a_line_without_end(service: ServiceProcess, caller: RawConnection) -> None:
    """A line without end is answered at its first 64 KiB, and the connection closed soon after."""
    with memory_growth_below(service, 24):
        caller.send(CHUNKED + chunk(b" " * 128 * KIB))
        assert Answers(caller).all() == [TOO_LONG]
        assert caller.send_on(chunk(b" " * 64 * KIB), 128 * KIB**2) < 48 * KIB**2


def send_behind(caller: RawConnection, parts: Sequence[bytes]) -> threading.Thread:
    """Send while the answers are read."""

    def send() -> None:
        for part in parts:
            caller.send(part)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_long_stream_in_little_memory(service: ServiceProcess, caller: RawConnection, settings: Settings) -> None:
    """Fifty thousand lines, 14 MB of them, take no more memory than a few, and each is recorded."""
    tenant = uuid4()
    warm_up = [chunk(line(tenant, f"warm {number}") * 100) for number in range(50)]
    thread = send_behind(caller, [CHUNKED, *warm_up, END])
    assert len(Answers(caller).all()) == 5000
    thread.join()
    tenant = uuid4()
    parts = [
        chunk(b"".join(line(tenant, f"{number:0200}") for number in range(start, start + 500)))
        for start in range(0, 50_000, 500)
    ]
    with memory_growth_below(service, 6):
        thread = send_behind(caller, [CHUNKED, *parts, END])
        results = Answers(caller).all()
        thread.join()
    assert [result["status"] for result in results] == [201] * 50_000
    alerts = kept(settings, tenant)
    assert [alerts[f"{number:0200}"] for number in range(50_000)] == [result["id"] for result in results]


def test_who_does_not_read(service: ServiceProcess) -> None:
    """From a caller that does not read its answers no more is taken, and after a while it is cut off."""
    with memory_growth_below(service, 24), raw_connections(service, 1) as (caller,):
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.send(CHUNKED)
        data = chunk(b"{}\n" * 20_000)  # whose answers are many times as long
        started = time.monotonic()
        assert caller.send_on(data, 64 * KIB**2) < 32 * KIB**2
        assert time.monotonic() - started < 8
        deadline = time.monotonic() + 5
        while len(open_sockets(service)) > 6:  # the pool's
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_goes_away(service: ServiceProcess, settings: Settings, tenant: UUID) -> None:
    """All that a caller was answered before it went away half way is kept, and the service goes on."""
    with raw_connections(service, 1) as (caller,):
        thread = send_behind(
            caller, [CHUNKED, *(chunk(b"".join(line(tenant, f"{n} {m}") for m in range(100))) for n in range(40))]
        )
        answers = Answers(caller)
        results = answers.next() + answers.next()
        thread.join()
    alerts = set(kept(settings, tenant).values())
    assert {result["id"] for result in results} <= alerts
    with raw_connections(service, 1) as (other,):
        other.send(whole(line(tenant)))
        assert len(Answers(other).all()) == 1
    assert [it for it in service.lines() if it["level"] == "ERROR"] == []


def test_many_streams(service: ServiceProcess, settings: Settings) -> None:
    """Streams at the same time are each answered their own, and a single request is answered meanwhile."""
    tenants = [uuid4() for _ in range(8)]
    with raw_connections(service, 9) as (single, *callers):
        data = [b"".join(line(tenant, str(n)) for n in range(2000)) for tenant in tenants]
        threads = [send_behind(caller, [whole(each)]) for caller, each in zip(callers, data, strict=True)]
        answers = [Answers(caller) for caller in callers]
        started = time.monotonic()
        single.send(f"GET /stats/{tenants[0]} HTTP/1.1\r\nHost: alerts.test\r\n\r\n".encode())
        assert single.answer()[0] == 200
        assert time.monotonic() - started < 1
        for tenant, each in zip(tenants, answers, strict=True):
            results = each.all()
            alerts = kept(settings, tenant)
            assert [alerts[str(n)] for n in range(2000)] == [result["id"] for result in results]
        for thread in threads:
            thread.join()


def test_who_waits_to_be_told_to_go_on(caller: RawConnection, tenant: UUID) -> None:
    """A caller that asks whether to send its body is told so before it is answered."""
    data = line(tenant)
    caller.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(data))
    assert (caller.stream.readline(), caller.stream.readline()) == (b"HTTP/1.1 100 Continue\r\n", b"\r\n")
    caller.send(data)
    assert [result["status"] for result in Answers(caller).all()] == [201]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl(service: ServiceProcess, tenant: UUID, tmp_path: Path) -> None:
    """Curl sends a file of any length and writes the results."""
    file = tmp_path / "alerts.ndjson"
    file.write_bytes(b"".join(line(tenant, str(number)) for number in range(20_000)))
    command = ["curl", "-sS", "--data-binary", f"@{file}", "-H", "Content-Type: application/x-ndjson"]
    run = subprocess.run([*command, f"{service.url}/alerts/bulk"], capture_output=True, check=True)
    assert [json.loads(result)["status"] for result in run.stdout.splitlines()] == [201] * 20_000


def test_of_a_service(caller: RawConnection, tenant: UUID) -> None:
    """A stream to the internal route wants the service key, before a line of it is read."""
    head = HEAD.replace(b"/alerts", b"/internal/alerts")
    caller.send(whole(line(tenant), head))
    assert caller.answer()[0] == 401
    caller.send(whole(line(tenant), head + b"X-Service-Key: %s\r\n" % PUBLISHED_SERVICE_KEY.encode()))
    assert [result["status"] for result in Answers(caller).all()] == [201]


def test_of_a_tenant(settings: Settings, tmp_path: Path, tenant: UUID) -> None:
    """With a tenant's token a line for another tenant is 403; a tenant's calls are counted by its parts."""
    url = str(settings.database_url)
    with (
        serving(
            tmp_path, DATABASE_URL=url, TENANT_JWT_SECRET=JWT_SECRET, AS_ALERTS_RATE_LIMIT_TENANT="2/hour"
        ) as service,
        raw_connections(service, 1) as (it,),
    ):
        head = HEAD + f"Authorization: Bearer {sign_token('HS256', tenant)}\r\n".encode()
        data = line(tenant) + line(uuid4()) + line(tenant) * 748
        it.send(whole(data, head))
        results = Answers(it).all()
    assert [result["status"] for result in results[:3]] == [201, 403, 201]
    assert [result["status"] for result in results[-248:]] == [429] * 248
    assert results[-1]["retry_after"] > 0


def test_a_stream_ends_when_its_token_expires(settings: Settings, tmp_path: Path, tenant: UUID) -> None:
    """The first lines behind the expiry are answered by one line of status 401, and are not recorded."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), TENANT_JWT_SECRET=JWT_SECRET) as service,
        raw_connections(service, 1) as (caller,),
    ):
        expires = int(time.time() + 0.5) + 1  # whole seconds, as a token's are
        caller.send(
            CHUNKED.replace(
                b"\r\n\r\n", f"\r\nAuthorization: Bearer {sign_token('HS256', tenant, exp=expires)}".encode()
            )
            + b"\r\n\r\n"
            + chunk(line(tenant, "before"))
        )
        answers = Answers(caller)
        assert [result["status"] for result in answers.next()] == [201]
        while time.time() < expires:
            time.sleep(0.05)
        caller.send(chunk(line(tenant, "after") * 2))
        (last,) = answers.all()
        assert answers.ended
    assert last == {"status": 401, "error": {"error": "Unauthorized", "detail": "Authorization: the token has expired"}}
    assert kept(settings, tenant).keys() == {"before"}


def test_the_end_of_the_service(settings: Settings, tmp_path: Path, tenant: UUID) -> None:
    """A stream that does not end by itself is told so when the service stops, and does not hold it up."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_SHUTDOWN_TIMEOUT="1") as service,
        raw_connections(service, 1) as (caller,),
    ):
        caller.send(CHUNKED + chunk(line(tenant)))
        answers = Answers(caller)
        assert [result["status"] for result in answers.next()] == [201]
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        caller.send(chunk(line(tenant)))
        assert [result["status"] for result in answers.next()] == [201]
        (last,) = answers.all()
        assert answers.ended
        assert service.process.wait(timeout=10) == 0
        assert last["status"] == 503
        assert last["error"]["detail"] == "the service is shutting down; the change may have been made"
        assert [it["exc_info"] for it in service.lines() if "exc_info" in it] == []
