"""Rules that apply to every route: unknown paths, methods, HEAD, OPTIONS, request ids, media types, error bodies."""

import asyncio
import gzip
import re
import statistics
import time
from typing import NoReturn
from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.db.database import Database
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, UNKNOWN_ALERT_ID, alert_body, assert_error
from tests.support.asgi import Input, answer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/nope", "/alerts/x/y/z", "/docs/nope", "/docs/a/b", "/internal", "/health/x"])
async def test_an_unknown_path_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert_error(await client.get(path), 404, "Not found")


METHODS = [
    ("/alerts", "GET, HEAD, OPTIONS, POST"),
    (f"/alerts/{UNKNOWN_ALERT_ID}", "GET, HEAD, OPTIONS"),
    (f"/alerts/{UNKNOWN_ALERT_ID}/acknowledge", "OPTIONS, PUT"),
    (f"/alerts/{UNKNOWN_ALERT_ID}/resolve", "OPTIONS, PUT"),
    (f"/stats/{UNKNOWN_ALERT_ID}", "GET, HEAD, OPTIONS"),
    ("/internal/alerts", "OPTIONS, POST"),
    ("/health", "GET, HEAD, OPTIONS"),
    ("/health/live", "GET, HEAD, OPTIONS"),
    ("/health/details", "GET, HEAD, OPTIONS"),
    ("/docs", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
]


@pytest.mark.parametrize(("path", "allow"), METHODS)
async def test_an_unsupported_method_is_405_with_the_supported_methods_in_allow(
    client: httpx.AsyncClient, path: str, allow: str
) -> None:
    response = await client.delete(path)
    assert_error(response, 405, "Method not allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(("path", "allow"), METHODS)
async def test_options_returns_the_supported_methods_in_allow(client: httpx.AsyncClient, path: str, allow: str) -> None:
    response = await client.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == allow


async def test_options_of_an_unknown_path_is_404(client: httpx.AsyncClient) -> None:
    assert_error(await client.options("/nope"), 404, "Not found")


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/alerts?tenant_id={tenant}", "/stats/{tenant}", "/docs", "/openapi.json"]
)
async def test_head_returns_the_headers_of_get_without_the_body(
    app: AlertsApp, client: httpx.AsyncClient, tenant: UUID, path: str
) -> None:
    url = path.format(tenant=tenant)
    raw_path, _, query = url.encode().partition(b"?")
    _, _, body = await answer(app, Input("HEAD", raw_path, query, [], b""))
    assert body == b""  # httpx drops the body of a response to HEAD
    head, get = [await client.request(method, url) for method in ("HEAD", "GET")]
    assert (head.status_code, head.content) == (200, b"")
    for header in ("content-type", "content-length"):
        assert head.headers[header] == get.headers[header]


async def test_head_of_an_unknown_alert_is_404_without_a_body(client: httpx.AsyncClient) -> None:
    response = await client.head(f"/alerts/{uuid4()}")
    assert (response.status_code, response.content) == (404, b"")


async def test_the_openapi_document_is_generated_once(client: httpx.AsyncClient) -> None:
    async def cpu_seconds() -> float:
        started = time.process_time()
        assert (await client.get("/openapi.json")).status_code == 200
        return time.process_time() - started

    assert statistics.median([await cpu_seconds() for _ in range(9)]) < 0.004


async def test_a_response_has_a_new_request_id_if_the_request_has_none(client: httpx.AsyncClient) -> None:
    ids = [(await client.get(path)).headers["x-request-id"] for path in ("/health", "/health", "/nope")]
    assert all(re.fullmatch(r"[0-9a-f]{32}", id_) for id_ in ids)
    assert len(set(ids)) == 3


async def test_the_request_id_of_the_client_is_returned(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-ID": "call-42/a.b"})
    assert response.headers["x-request-id"] == "call-42/a.b"


@pytest.mark.parametrize("request_id", [b"", b"x" * 129, b"a b", b"\xff", b"a\tb", b"%0d%0a"])
async def test_a_request_id_that_is_unsafe_in_a_log_is_replaced(client: httpx.AsyncClient, request_id: bytes) -> None:
    response = await client.get("/health", headers={b"X-Request-ID": request_id})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


async def test_an_unexpected_exception_is_a_500_without_details(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tenant: UUID
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("SELECT secret FROM traceback")

    monkeypatch.setattr("alerts_service.alerts.controller._create", fail)
    response = await client.post("/alerts", json=alert_body(tenant))
    assert_error(response, 500, "Internal server error")
    assert response.json()["detail"] is None


async def test_a_malformed_host_header_is_rejected(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers=[(b"host", b"no host\xff")])
    assert_error(response, 422, "Validation error", "Invalid host header")


def routes_with_a_body(app: AlertsApp) -> list[tuple[str, str]]:
    paths = app.openapi_schema.to_schema()["paths"]
    return [
        (method, path.format(alert_id=UNKNOWN_ALERT_ID))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/jsonp"),
        ("Content-Encoding", "gzip"),
    ],
)
async def test_a_body_that_is_declared_compressed_or_not_json_is_415(
    app: AlertsApp, client: httpx.AsyncClient, name: str, value: str
) -> None:
    routes = routes_with_a_body(app)
    assert len(routes) >= 4
    for method, path in routes:
        headers = {name: value, "X-Service-Key": SERVICE_KEY}
        response = await client.request(method, path, content=gzip.compress(bytes(1 << 24)), headers=headers)
        assert_error(response, 415, "Unsupported media type", f"{name}: must")
        assert response.headers["accept-encoding"] == "identity"
        accepted = "application/json, application/x-ndjson" if path.endswith("/bulk") else "application/json"
        assert response.headers["accept"] == accepted
        assert name != "Content-Type" or response.json()["detail"].endswith(accepted.replace(", ", " or "))


async def test_a_body_without_a_content_type_is_decoded_as_json(app: AlertsApp, client: httpx.AsyncClient) -> None:
    for method, path in routes_with_a_body(app):
        response = await client.request(method, path, content=b'{"no": 1}', headers={"X-Service-Key": SERVICE_KEY})
        assert_error(response, 422, "Validation error", 'unknown field "no"')


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "", "nothing was changed"),
        ("HEAD", "", ""),
        ("PUT", "/resolve", "the change may have been made"),
    ],
)
async def test_a_request_that_is_canceled_by_a_shutdown(
    app: AlertsApp, monkeypatch: pytest.MonkeyPatch, method: str, path: str, text: str
) -> None:
    """The response is 503. The response to a read has Retry-After, since a read changes nothing."""

    async def cancel(*_: object, **__: object) -> NoReturn:
        raise asyncio.CancelledError

    monkeypatch.setattr(Database, "one_or_none", cancel)
    request = Input(method, f"/alerts/{UNKNOWN_ALERT_ID}{path}".encode(), b"", [], b"")
    status, headers, body = await answer(app, request)
    assert (status, headers.get(b"retry-after")) == (503, None if method == "PUT" else b"1")
    assert text.encode() in body
    assert method != "HEAD" or body == b""
