"""NDJSON requests that are slow, long or interrupted: timeouts, memory, backpressure and shutdown."""

import asyncio
import signal
import socket
import time
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from alerts_service.settings import Settings
from tests.support.ndjson import (
    CHUNKED_HEAD,
    KIB,
    LAST_CHUNK,
    ResultReader,
    alert_line,
    chunk,
    complete_request,
    send_in_thread,
    stored_ids,
)
from tests.support.processes import ServiceProcess, serving
from tests.support.sockets import RawConnection, memory_growth_below, open_sockets, raw_connections


async def test_a_wait_for_the_database_does_not_count_as_a_timeout_of_the_client(
    ndjson_service: ServiceProcess, raw_connection: RawConnection, settings: Settings, tenant: UUID
) -> None:
    """The connection stays open for longer than the request timeout, and the log holds the reason of the 503."""
    connection = await asyncpg.connect(settings.database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE alert_counts IN EXCLUSIVE MODE")
        raw_connection.send(CHUNKED_HEAD + chunk(alert_line(tenant) * 250))
        started = time.monotonic()
        reader = await asyncio.to_thread(ResultReader, raw_connection)
        results = reader.read_chunk()
        assert time.monotonic() - started > 1.2
        assert {result["status"] for result in results} == {503}
    await connection.close()
    raw_connection.send(chunk(alert_line(tenant)) + LAST_CHUNK)
    assert [result["status"] for result in reader.read_all()] == [201]
    await asyncio.sleep(0.2)
    request_id = reader.headers["x-request-id"]
    (log_line,) = [line for line in ndjson_service.lines() if line.get("request_id") == request_id]
    assert log_line["reason"] in {
        "could not lock a row in time, because of concurrent changes",
        "timed out waiting for the database",
    }


def test_the_request_timeout_applies_to_each_line(raw_connection: RawConnection, tenant: UUID) -> None:
    """A request may take longer than the timeout. If no line arrives within it, the response ends with a 408."""
    raw_connection.send(CHUNKED_HEAD + chunk(alert_line(tenant)))
    reader = ResultReader(raw_connection)
    assert [result["status"] for result in reader.read_chunk()] == [201]
    started = time.monotonic()
    while time.monotonic() - started < 1.6:
        time.sleep(0.4)
        raw_connection.send(chunk(alert_line(tenant)))
        assert [result["status"] for result in reader.read_chunk()] == [201]
    last_sent = time.monotonic()
    timeout = {"error": "Request timeout", "detail": "the next line must arrive within 1 s"}
    assert reader.read_chunk() == [{"status": 408, "error": timeout}]
    assert reader.read_chunk() == []
    assert reader.complete
    assert raw_connection.closed()
    assert 0.5 < time.monotonic() - last_sent < 3


@pytest.mark.parametrize("data", [b"", b"x"], ids=["no byte", "incomplete line"])
def test_without_a_first_line_in_time_the_response_is_408(raw_connection: RawConnection, data: bytes) -> None:
    raw_connection.send(CHUNKED_HEAD + (chunk(data) if data else b""))
    raw_connection.assert_refused(408, "Request timeout", "the next line must arrive within 1 s")


def test_a_line_that_arrives_byte_by_byte_times_out(raw_connection: RawConnection, tenant: UUID) -> None:
    raw_connection.send(CHUNKED_HEAD + chunk(alert_line(tenant)))
    reader = ResultReader(raw_connection)
    assert len(reader.read_chunk()) == 1
    started = time.monotonic()
    try:
        while time.monotonic() - started < 5:
            raw_connection.send(chunk(b" "))
            time.sleep(0.05)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert time.monotonic() - started < 3


def test_the_memory_for_50000_lines_is_that_for_a_few(
    ndjson_service: ServiceProcess, raw_connection: RawConnection, settings: Settings
) -> None:
    """The body has 14 MB. All lines are stored, and their results are in order."""
    warm_up_tenant, tenant = uuid4(), uuid4()
    warm_up = [chunk(alert_line(warm_up_tenant, f"warm {number}") * 100) for number in range(50)]
    thread = send_in_thread(raw_connection, [CHUNKED_HEAD, *warm_up, LAST_CHUNK])
    assert len(ResultReader(raw_connection).read_all()) == 5000
    thread.join()
    chunks = [
        chunk(b"".join(alert_line(tenant, f"{number:0200}") for number in range(start, start + 500)))
        for start in range(0, 50_000, 500)
    ]
    with memory_growth_below(ndjson_service, 6):
        thread = send_in_thread(raw_connection, [CHUNKED_HEAD, *chunks, LAST_CHUNK])
        results = ResultReader(raw_connection).read_all()
        thread.join()
    assert [result["status"] for result in results] == [201] * 50_000
    ids = stored_ids(settings, tenant)
    assert [ids[f"{number:0200}"] for number in range(50_000)] == [result["id"] for result in results]


def test_a_client_that_does_not_read_is_not_read_from_and_then_disconnected(ndjson_service: ServiceProcess) -> None:
    with memory_growth_below(ndjson_service, 24), raw_connections(ndjson_service, 1) as (connection,):
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(CHUNKED_HEAD)
        data = chunk(b"{}\n" * 20_000)  # the results are many times as long
        started = time.monotonic()
        assert connection.send_on(data, 64 * KIB**2) < 32 * KIB**2
        assert time.monotonic() - started < 8
        deadline = time.monotonic() + 5
        while len(open_sockets(ndjson_service)) > 6:  # the connections of the pool
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_after_a_disconnect_all_confirmed_alerts_are_stored(
    ndjson_service: ServiceProcess, settings: Settings, tenant: UUID
) -> None:
    """The service keeps serving, and no error is logged."""
    chunks = [chunk(b"".join(alert_line(tenant, f"{n} {m}") for m in range(100))) for n in range(40)]
    with raw_connections(ndjson_service, 1) as (connection,):
        thread = send_in_thread(connection, [CHUNKED_HEAD, *chunks])
        reader = ResultReader(connection)
        results = reader.read_chunk() + reader.read_chunk()
        thread.join()
    assert results
    assert {result["id"] for result in results} <= set(stored_ids(settings, tenant).values())
    with raw_connections(ndjson_service, 1) as (other_connection,):
        other_connection.send(complete_request(alert_line(tenant)))
        assert len(ResultReader(other_connection).read_all()) == 1
    assert [line for line in ndjson_service.lines() if line["level"] == "ERROR"] == []


def test_a_shutdown_ends_an_open_request_with_503_after_the_shutdown_timeout(
    settings: Settings, tmp_path: Path, tenant: UUID
) -> None:
    """Lines that arrive before the timeout are processed."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), AS_ALERTS_SHUTDOWN_TIMEOUT="1") as service,
        raw_connections(service, 1) as (connection,),
    ):
        connection.send(CHUNKED_HEAD + chunk(alert_line(tenant)))
        reader = ResultReader(connection)
        assert [result["status"] for result in reader.read_chunk()] == [201]
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        connection.send(chunk(alert_line(tenant)))
        assert [result["status"] for result in reader.read_chunk()] == [201]
        (last,) = reader.read_all()
        assert reader.complete
        assert service.process.wait(timeout=10) == 0
        assert last["status"] == 503
        assert last["error"]["detail"] == "the service is shutting down; the change may have been made"
        assert [line["exc_info"] for line in service.lines() if "exc_info" in line] == []
