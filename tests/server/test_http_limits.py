"""Limits of the HTTP server: timeouts of requests, sizes of heads and bodies, and clients that do not read."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from alerts_service.settings import Settings
from tests.server.requests import BODY_TIMEOUT, HEAD, HEAD_TIMEOUT, HEAD_TOO_LARGE, LIVE_REQUEST, create_request
from tests.support.processes import ServiceProcess, serving
from tests.support.sockets import MIB, RawConnection, memory_growth_below, open_sockets, raw_connections

INCOMPLETE_REQUESTS = [
    b"G",
    b"POST /alerts HTTP/1.1\r\nHost: alerts.test\r\nX-Half",
    HEAD + b"Content-Length: 100\r\n\r\n",
    HEAD + b'Content-Length: 100\r\n\r\n{"tenant_id"',
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n",
]


def test_an_incomplete_request_times_out_with_408(service: ServiceProcess) -> None:
    """A request that was already answered times out without a second response."""
    with raw_connections(service, len(INCOMPLETE_REQUESTS) + 1) as (answered, *connections):
        started = time.monotonic()
        answered.send(LIVE_REQUEST[:-2] + b"Content-Length: 100\r\n\r\n")
        for connection, part in zip(connections, INCOMPLETE_REQUESTS, strict=True):
            connection.send(part)
        for connection, part in zip(connections, INCOMPLETE_REQUESTS, strict=True):
            error = BODY_TIMEOUT if b"\r\n\r\n" in part else HEAD_TIMEOUT
            connection.assert_refused(*error)
        assert answered.answer()[0] == 200
        assert answered.closed()
    assert 0.4 < time.monotonic() - started < 3


def test_a_body_that_arrives_too_slowly_times_out(connection: RawConnection) -> None:
    connection.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    started = time.monotonic()
    while time.monotonic() - started < 0.4:
        connection.send(b" ")
        time.sleep(0.05)
    connection.assert_refused(*BODY_TIMEOUT)


def test_a_client_that_is_still_sending_can_read_the_408(service: ServiceProcess) -> None:
    """If the connection were closed at once, the client could lose the response (RFC 9112, section 9.6)."""
    with raw_connections(service, 1) as (connection,):
        connection.send(HEAD + b"Content-Length: 1000000\r\n\r\n")
        connection.stream.peek(1)
        for _ in range(3):  # a reset of the connection would show at the next send
            time.sleep(0.1)
            connection.send(b" " * 100_000)
        connection.assert_refused(*BODY_TIMEOUT)


@pytest.mark.anyio
async def test_the_timeout_of_a_body_starts_after_the_response_to_the_previous_request(
    connection: RawConnection, settings: Settings, tenant: UUID
) -> None:
    locker = await asyncpg.connect(settings.database_url)
    last = create_request(tenant, "last")
    async with locker.transaction():
        await locker.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        connection.send(create_request(tenant, "waits for the lock") * 4 + last[:-10])
        statuses = [(await asyncio.to_thread(connection.answer))[0] for _ in range(4)]
        assert time.monotonic() - started > 0.8  # the request timeout is 0.5 s
    connection.send(last[-10:])
    await locker.close()
    assert statuses == [503] * 4
    assert connection.answer()[0] == 201


def test_a_connection_without_a_request_is_closed_without_a_response(service: ServiceProcess) -> None:
    with raw_connections(service, 2) as (silent, blank):
        blank.send(b"\r\n")
        assert silent.closed()
        assert blank.closed()


def test_the_timeout_applies_to_each_request_of_a_connection(connection: RawConnection) -> None:
    for _ in range(6):
        connection.send(LIVE_REQUEST[:20])
        time.sleep(0.1)
        connection.send(LIVE_REQUEST[20:])
        assert connection.answer()[0] == 200


ENDLESS_HEADS = [
    (b"GET /", b"a" * 8192),
    (b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 8192),
    (b"GET / HTTP/1.1\r\n", b"X-Many: a\r\n" * 500),
    (b"", b"\r\n" * 4096),
]


def test_an_endless_head_is_rejected_with_431_and_takes_no_memory(service: ServiceProcess) -> None:
    def send_endless_head(start: bytes, more: bytes) -> None:
        with raw_connections(service, 1) as (connection,):
            connection.send(start)
            assert connection.send_on(more, 128 * MIB) < 48 * MIB  # most of it is in the buffers of the kernel
            connection.assert_refused(*HEAD_TOO_LARGE)

    with memory_growth_below(service, 16), ThreadPoolExecutor() as pool:
        list(pool.map(send_endless_head, *zip(*ENDLESS_HEADS, strict=True)))


@pytest.mark.parametrize(
    ("earlier_requests", "excess", "status"), [(b"", 0, 200), (LIVE_REQUEST * 95, 0, 200), (b"", 1, 431)]
)
def test_a_head_of_64_kib_is_accepted_and_one_more_byte_is_rejected(
    connection: RawConnection, earlier_requests: bytes, excess: int, status: int
) -> None:
    head = LIVE_REQUEST[:-2] + b"X-Many: a\r\n" * 3000 + b"X-Long: \r\n\r\n"
    connection.send(earlier_requests + head[:-4] + b"a" * (64 * 1024 + excess - len(head)) + head[-4:])
    statuses = [connection.answer()[0] for _ in range(len(earlier_requests) // len(LIVE_REQUEST) + 1)]
    assert statuses[-1] == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD, 413),
        (HEAD.replace(b"/alerts", b"/internal/alerts"), 401),
        (LIVE_REQUEST[:-2], 200),
    ],
)
def test_an_endless_body_is_answered_after_one_mib_and_the_connection_is_closed(
    service: ServiceProcess, connection: RawConnection, head: bytes, status: int
) -> None:
    """A request whose headers suffice for the response is answered at once."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with memory_growth_below(service, 24):
        connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)
        assert connection.answer()[0] == status
        assert connection.send_on(chunk, 128 * MIB) < 48 * MIB
    assert connection.closed()


def test_incomplete_bodies_fill_the_buffer_until_their_connections_close(settings: Settings, tmp_path: Path) -> None:
    incomplete_body = b"Content-Length: 1000000\r\n\r\n" + b" " * 990_000
    with serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="3") as service:
        with memory_growth_below(service, 160), raw_connections(service, 100) as connections:
            for connection in connections:
                connection.send(HEAD + incomplete_body)
            time.sleep(0.5)
            with raw_connections(service, 1) as (late,):
                late.send(HEAD + incomplete_body)
                status, headers, body = late.answer()
            assert (status, headers["retry-after"], json.loads(body)["detail"]) == (
                503,
                "1",
                "the buffer for request bodies is full (64 MiB)",
            )
        time.sleep(0.5)
        with raw_connections(service, 1) as (after,):
            after.send(HEAD + incomplete_body + b" " * 10_000)
            assert after.answer()[0] == 422


def test_endless_trailers_take_no_memory_and_the_connection_is_closed(
    service: ServiceProcess, connection: RawConnection
) -> None:
    with memory_growth_below(service, 16):
        connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        assert connection.send_on(b"X-Service-Key: a\r\n" * 1000, 128 * MIB) < 48 * MIB


def test_clients_that_do_not_read_pipelined_responses_are_disconnected(
    service: ServiceProcess, connection: RawConnection, tenant: UUID
) -> None:
    for number in range(50):
        connection.send(create_request(tenant, str(number).zfill(10_000)))
        assert connection.answer()[0] == 201
    with memory_growth_below(service, 80), raw_connections(service, 20) as connections:
        for idle in connections:
            idle.send(b"GET /alerts?tenant_id=%s HTTP/1.1\r\n\r\n" % str(tenant).encode() * 100)
        connection.send(LIVE_REQUEST)
        assert connection.answer()[0] == 200
        deadline = time.monotonic() + 10
        while len(open_sockets(service)) > 6 + 1:  # those of the pool, and this client
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_incomplete_requests_do_not_delay_the_shutdown(settings: Settings, tmp_path: Path) -> None:
    """Connections without a whole head are closed soon, those with an incomplete body at their timeout."""
    body = HEAD + b"Content-Length: 9\r\n\r\n"
    for timeout, parts in (("30", [b"", LIVE_REQUEST[:20]]), ("0.3", [body])):
        with (
            serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT=timeout) as service,
            raw_connections(service, len(parts)) as connections,
        ):
            for connection, part in zip(connections, parts, strict=True):
                connection.send(part)
            time.sleep(0.1)
            started = time.monotonic()
            log = service.stop()
            assert time.monotonic() - started < 3
            assert service.process.returncode == 0
            assert [line["message"] for line in log if line["level"] == "ERROR"] == []
