"""Bulk creates with NDJSON against a real process: a result for each line, and who may send which lines."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from tests.support.ndjson import (
    CHUNKED_HEAD,
    HEAD,
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
from tests.support.sockets import RawConnection, memory_growth_below, raw_connections
from tests.support.tokens import JWT_SECRET, sign_token

LINE_TOO_LONG = {
    "status": 413,
    "error": {
        "error": "Line too long",
        "detail": "line: must be at most 64 KiB; the lines after it are not processed",
    },
}


def test_each_line_has_a_result_in_order(raw_connection: RawConnection, settings: Settings, tenant: UUID) -> None:
    """An invalid line fails alone. The last line needs no line break."""
    lines = [
        alert_line(tenant, "a"),
        b"{\n",
        b" \n",
        b'{"tenant_id":1}\r\n',
        alert_line(tenant, "b")[:-1] + b"\r\n",
        b"\xff\n",
        alert_line(tenant, "c")[:-1],
    ]
    raw_connection.send(complete_request(b"".join(lines)))
    reader = ResultReader(raw_connection)
    assert (reader.status, reader.headers["content-type"]) == (200, "application/x-ndjson")
    results = reader.read_all()
    assert reader.complete
    assert [result["status"] for result in results] == [201, 422, 422, 422, 201, 422, 201]
    assert stored_ids(settings, tenant) == {"a": results[0]["id"], "b": results[4]["id"], "c": results[6]["id"]}
    assert results[2]["error"]["detail"] == "body: must not be empty"
    assert results[3]["error"] == {"error": "Validation error", "detail": "tenant_id: must be a UUID, not a number"}
    assert results[0].keys() == {"status", "id"}


def test_an_empty_body_has_no_results_and_keeps_the_connection(raw_connection: RawConnection, tenant: UUID) -> None:
    raw_connection.send(complete_request(b"") + complete_request(alert_line(tenant)))
    assert ResultReader(raw_connection).read_all() == []
    assert [result["status"] for result in ResultReader(raw_connection).read_all()] == [201]


def test_responses_on_one_connection_do_not_share_headers(raw_connection: RawConnection, tenant: UUID) -> None:
    for _ in range(3):
        raw_connection.send(complete_request(alert_line(tenant), HEAD + b"X-Request-ID: mine\r\n"))
        head = b"".join(iter(raw_connection.stream.readline, b"\r\n")).lower()
        assert head.count(b"\r\nx-request-id: ") == head.count(b"\r\ncontent-type: ") == 1
        while int(raw_connection.stream.readline() or b"0", 16):
            raw_connection.stream.readline()
            raw_connection.stream.readline()
        raw_connection.stream.readline()


def test_lines_may_be_split_at_any_byte(raw_connection: RawConnection, settings: Settings, tenant: UUID) -> None:
    data = b"".join(alert_line(tenant, f"é{number}") for number in range(20))
    raw_connection.send(CHUNKED_HEAD)
    for start in range(0, len(data), 7):
        raw_connection.send(chunk(data[start : start + 7]))
    raw_connection.send(LAST_CHUNK)
    assert [result["status"] for result in ResultReader(raw_connection).read_all()] == [201] * 20
    assert stored_ids(settings, tenant).keys() == {f"é{number}" for number in range(20)}


@pytest.mark.parametrize("rest", [b"", b"\n" + b"{}\n" * 1000], ids=["end of body", "more lines"])
def test_a_line_over_64_kib_ends_the_request_with_413(
    raw_connection: RawConnection, settings: Settings, tenant: UUID, rest: bytes
) -> None:
    """The lines before it are processed, and a line of exactly 64 KiB is accepted."""
    longest = alert_line(tenant, "a").rstrip().ljust(64 * KIB) + b"\n"
    raw_connection.send(complete_request(longest + alert_line(tenant, "b") + b" " * (64 * KIB + 1) + rest))
    reader = ResultReader(raw_connection)
    results = reader.read_all()
    assert reader.complete
    assert [result["status"] for result in results] == [201, 201, 413]
    assert results[-1] == LINE_TOO_LONG
    assert stored_ids(settings, tenant).keys() == {"a", "b"}


def test_an_endless_line_is_413_and_closes_the_connection(
    ndjson_service: ServiceProcess, raw_connection: RawConnection
) -> None:
    with memory_growth_below(ndjson_service, 24):
        raw_connection.send(CHUNKED_HEAD + chunk(b" " * 128 * KIB))
        assert ResultReader(raw_connection).read_all() == [LINE_TOO_LONG]
        assert raw_connection.send_on(chunk(b" " * 64 * KIB), 128 * KIB**2) < 48 * KIB**2


def test_a_malformed_chunk_ends_the_request_with_400(
    ndjson_service: ServiceProcess, raw_connection: RawConnection, tenant: UUID
) -> None:
    raw_connection.send(CHUNKED_HEAD + chunk(alert_line(tenant)))
    reader = ResultReader(raw_connection)
    assert [result["status"] for result in reader.read_chunk()] == [201]
    raw_connection.send(b"no size\r\n")
    (last,) = reader.read_all()
    assert (last["status"], last["error"]["error"]) == (400, "Bad request")
    assert reader.complete
    assert raw_connection.closed()
    assert [line for line in ndjson_service.lines() if "exc_info" in line] == []


def test_concurrent_requests_receive_their_own_results(ndjson_service: ServiceProcess, settings: Settings) -> None:
    """A single request is served within a second in the meantime."""
    tenants = [uuid4() for _ in range(8)]
    bodies = [b"".join(alert_line(tenant, str(n)) for n in range(2000)) for tenant in tenants]
    with raw_connections(ndjson_service, 9) as (single, *connections):
        threads = [
            send_in_thread(connection, [complete_request(body)])
            for connection, body in zip(connections, bodies, strict=True)
        ]
        readers = [ResultReader(connection) for connection in connections]
        started = time.monotonic()
        single.send(f"GET /stats/{tenants[0]} HTTP/1.1\r\nHost: alerts.test\r\n\r\n".encode())
        assert single.answer()[0] == 200
        assert time.monotonic() - started < 1
        for tenant, reader in zip(tenants, readers, strict=True):
            results = reader.read_all()
            ids = stored_ids(settings, tenant)
            assert [ids[str(n)] for n in range(2000)] == [result["id"] for result in results]
        for thread in threads:
            thread.join()


def test_100_continue_is_sent_before_the_response(raw_connection: RawConnection, tenant: UUID) -> None:
    body = alert_line(tenant)
    raw_connection.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
    stream = raw_connection.stream
    assert (stream.readline(), stream.readline()) == (b"HTTP/1.1 100 Continue\r\n", b"\r\n")
    raw_connection.send(body)
    assert [result["status"] for result in ResultReader(raw_connection).read_all()] == [201]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_sends_a_file_and_prints_the_results(ndjson_service: ServiceProcess, tenant: UUID, tmp_path: Path) -> None:
    file = tmp_path / "alerts.ndjson"
    file.write_bytes(b"".join(alert_line(tenant, str(number)) for number in range(20_000)))
    command = ["curl", "-sS", "--data-binary", f"@{file}", "-H", "Content-Type: application/x-ndjson"]
    process = subprocess.run([*command, f"{ndjson_service.url}/alerts/bulk"], capture_output=True, check=True)
    assert [json.loads(result)["status"] for result in process.stdout.splitlines()] == [201] * 20_000


def test_the_internal_route_requires_the_service_key(raw_connection: RawConnection, tenant: UUID) -> None:
    head = HEAD.replace(b"/alerts", b"/internal/alerts")
    raw_connection.send(complete_request(alert_line(tenant), head))
    assert raw_connection.answer()[0] == 401
    head += b"X-Service-Key: %s\r\n" % PUBLISHED_SERVICE_KEY.encode()
    raw_connection.send(complete_request(alert_line(tenant), head))
    assert [result["status"] for result in ResultReader(raw_connection).read_all()] == [201]


def test_lines_of_other_tenants_are_403_and_chunks_over_the_rate_limit_are_429(
    settings: Settings, tmp_path: Path, tenant: UUID
) -> None:
    """A chunk has at most 250 lines, and counts as one request."""
    head = HEAD + f"Authorization: Bearer {sign_token('HS256', tenant)}\r\n".encode()
    body = alert_line(tenant) + alert_line(uuid4()) + alert_line(tenant) * 748
    url = str(settings.database_url)
    with (
        serving(
            tmp_path, DATABASE_URL=url, TENANT_JWT_SECRET=JWT_SECRET, AS_ALERTS_RATE_LIMIT_TENANT="2/hour"
        ) as service,
        raw_connections(service, 1) as (connection,),
    ):
        connection.send(complete_request(body, head))
        results = ResultReader(connection).read_all()
    assert [result["status"] for result in results[:3]] == [201, 403, 201]
    assert [result["status"] for result in results[-248:]] == [429] * 248
    assert results[-1]["retry_after"] > 0


def test_lines_after_the_expiry_of_the_token_are_not_processed(
    settings: Settings, tmp_path: Path, tenant: UUID
) -> None:
    """One result with status 401 ends the response."""
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), TENANT_JWT_SECRET=JWT_SECRET) as service,
        raw_connections(service, 1) as (connection,),
    ):
        expires = int(time.time() + 0.5) + 1  # `exp` has whole seconds
        token_header = f"Authorization: Bearer {sign_token('HS256', tenant, exp=expires)}\r\n".encode()
        head = HEAD + token_header + b"Transfer-Encoding: chunked\r\n\r\n"
        connection.send(head + chunk(alert_line(tenant, "before")))
        reader = ResultReader(connection)
        assert [result["status"] for result in reader.read_chunk()] == [201]
        time.sleep(expires - time.time() + 0.01)
        connection.send(chunk(alert_line(tenant, "after") * 2))
        (last,) = reader.read_all()
        assert reader.complete
    assert last == {"status": 401, "error": {"error": "Unauthorized", "detail": "Authorization: the token has expired"}}
    assert stored_ids(settings, tenant).keys() == {"before"}
