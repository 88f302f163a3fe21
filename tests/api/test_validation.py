"""Validation of requests: the responses to invalid bodies, paths and queries."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from alerts_service.web.middleware import AlertsApp
from tests.support.api import assert_error, create_alert
from tests.support.asgi import Input, answer

pytestmark = pytest.mark.anyio

TENANT = "123e4567-e89b-12d3-a456-426614174000"
VALID = {"tenant_id": TENANT, "rule_name": "r", "message": "m"}
VALID_JSON = json.dumps(VALID).encode()
FILTER = {"tenant_id": TENANT}
MIB = 1024 * 1024
SEVERITIES = "low, medium, high, critical"
CURSOR_DETAIL = "cursor: not valid; use the cursor in the Link header of the previous page"
TIME_DETAIL = "must be an RFC 3339 time such as 2026-01-05T09:30:00Z"
INCOMPLETE_DETAIL = "body: not valid JSON (incomplete, or a string contains an unpaired surrogate)"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in VALID.items() if key != name}


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/alerts", without("tenant_id"), "tenant_id: required"),
        ("/alerts", without("message"), "message: required"),
        ("/alerts", {**VALID, "status": "resolved"}, 'body: unknown field "status"'),
        ("/alerts", {**VALID, "x" * 101: 1}, f'body: unknown field "{"x" * 100}…"'),
        ("/alerts", {**VALID, "x - at `$.dedup_key.y": 1}, 'dedup_key.y: unknown field "x"'),
        ("/alerts", {**VALID, "tenant_id": "no-uuid"}, "tenant_id: must be a UUID"),
        ("/alerts", {**VALID, "tenant_id": None}, "tenant_id: must be a UUID, not null"),
        ("/alerts", {**VALID, "rule_name": 5}, "rule_name: must be a string, not a number"),
        ("/alerts", {**VALID, "rule_name": ["r"]}, "rule_name: must be a string, not an array"),
        ("/alerts", {**VALID, "rule_name": {}}, "rule_name: must be a string, not an object"),
        ("/alerts", {**VALID, "rule_name": ""}, "rule_name: must not be empty"),
        ("/alerts", {**VALID, "rule_name": "x" * 256}, "rule_name: must be at most 255 characters"),
        ("/alerts", {**VALID, "message": "x" * 10_001}, "message: must be at most 10000 characters"),
        ("/alerts", {**VALID, "message": "a\0"}, "message: must not contain the NUL character (U+0000)"),
        ("/alerts", {**VALID, "severity": "urgent"}, f'severity: "urgent" is not one of {SEVERITIES}'),
        ("/alerts", {**VALID, "severity": "it's"}, f'severity: "it\'s" is not one of {SEVERITIES}'),
        ("/alerts", {**VALID, "severity": None}, f"severity: must be one of {SEVERITIES}, not null"),
        ("/alerts", {**VALID, "dedup_key": 5}, "dedup_key: must be a string or null, not a number"),
        ("/alerts", [VALID], "body: must be an object, not an array"),
        ("/alerts", b"null", "body: must be an object, not null"),
        ("/alerts", b"", "body: must not be empty"),
        ("/alerts", b"{", INCOMPLETE_DETAIL),
        ("/alerts", VALID_JSON.replace(b'"m"', b'"\\ud800"'), INCOMPLETE_DETAIL),
        ("/alerts", b"{'a': 1}", "body: not valid JSON (object keys must be strings at byte 1)"),
        ("/alerts", VALID_JSON + b"}", f"body: not valid JSON (trailing characters at byte {len(VALID_JSON) + 1})"),
        ("/alerts", VALID_JSON.replace(b'"m"', b'"\xff"'), "body: not valid JSON (not encoded in UTF-8)"),
        ("/alerts", b'{"message":1e999}', "message: number out of range"),
        ("/alerts/bulk", {"alerts": []}, "alerts: must not be empty"),
        ("/alerts/bulk", {"alerts": [VALID] * 1001}, "alerts: must have at most 1000 items"),
        ("/alerts/bulk", {"alerts": VALID}, "alerts: must be an array, not an object"),
        ("/alerts/bulk/resolve", {"ids": [TENANT], "dry_run": "no"}, "dry_run: must be a boolean, not a string"),
        ("/alerts/bulk/resolve", {"filter": {}}, "filter.tenant_id: required"),
        ("/alerts/bulk/resolve", {"filter": {**FILTER, "id": 1}}, 'filter: unknown field "id"'),
        (
            "/alerts/bulk/resolve",
            {"filter": {**FILTER, "severity": "urgent"}},
            f'filter.severity: "urgent" is not one of {SEVERITIES}',
        ),
        (
            "/alerts/bulk/resolve",
            {"filter": {**FILTER, "severity": 1}},
            f"filter.severity: must be one of {SEVERITIES} or null, not a number",
        ),
        ("/alerts/bulk/resolve", {"filter": {**FILTER, "created_after": "x"}}, f"filter.created_after: {TIME_DETAIL}"),
        (
            "/alerts/bulk/resolve",
            {"filter": {**FILTER, "created_after": "2026-01-05T09:30:00"}},
            "filter.created_after: must have a UTC offset, such as Z or +01:00",
        ),
        (
            "/alerts/bulk/resolve",
            {"filter": {**FILTER, "created_after": 5}},
            "filter.created_after: must be an RFC 3339 time or null, not a number",
        ),
    ],
)
async def test_an_invalid_body_is_422_with_the_field_and_the_reason(
    client: httpx.AsyncClient, path: str, body: object, detail: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post(path, content=content)
    assert (response.status_code, response.json()) == (422, {"error": "Validation error", "detail": detail})


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/alerts", "tenant_id: required"),
        ("/alerts?tenant_id=", "tenant_id: must be a UUID"),
        ("/alerts?tenant_id=x&rule_name=", "tenant_id: must be a UUID; rule_name: must not be empty"),
        (f"/alerts?tenant_id={TENANT}&state=triggered", 'query: unknown parameter "state"'),
        (f"/alerts?tenant_id={TENANT}&tenant_id={TENANT}", "tenant_id: must be given only once"),
        (f"/alerts?tenant_id={TENANT}&status=null", 'status: "null" is not one of triggered, acknowledged, resolved'),
        (f"/alerts?tenant_id={TENANT}&created_after=Null", "created_after: must not be null"),
        (f"/history?tenant_id={TENANT}&type=null", "type: must not be null"),
        (f"/alerts?tenant_id={TENANT}&status=open", 'status: "open" is not one of triggered, acknowledged, resolved'),
        (f"/alerts?tenant_id={TENANT}&severity=low,urgent", f'severity: "urgent" is not one of {SEVERITIES}'),
        (f"/alerts?tenant_id={TENANT}&q=", "q: must not be empty"),
        (f"/alerts?tenant_id={TENANT}&q={'x' * 201}", "q: must be at most 200 characters"),
        (f"/alerts?tenant_id={TENANT}&q=%00", "q: must not contain the NUL character (U+0000)"),
        (f"/alerts?tenant_id={TENANT}&created_after=x", f"created_after: {TIME_DETAIL} (in a query, write + as %2B)"),
        (
            f"/alerts?tenant_id={TENANT}&created_after=9999999999999",
            f"created_after: {TIME_DETAIL} (in a query, write + as %2B)",
        ),
        (
            f"/alerts?tenant_id={TENANT}&created_after=2026-01-05T09:30:00",
            "created_after: must have a UTC offset, such as Z or +01:00",
        ),
        (
            f"/alerts?tenant_id={TENANT}&created_after=9999-12-31T23:59:59-01:00",
            "created_after: must be between the years 1 and 9999 in UTC",
        ),
        (f"/alerts?tenant_id={TENANT}&cursor=x", CURSOR_DETAIL),
        (f"/alerts?tenant_id={TENANT}&cursor=", CURSOR_DETAIL),
        (f"/alerts?tenant_id={TENANT}&cursor={'9' * 32}", CURSOR_DETAIL),
        (f"/alerts?tenant_id={TENANT}&cursor=~~~~{'A' * 32}", CURSOR_DETAIL),
        (f"/alerts?tenant_id={TENANT}&cursor=%00", CURSOR_DETAIL),
        (f"/alerts?tenant_id={TENANT}&cursor=é", CURSOR_DETAIL),
        (
            f"/history?tenant_id={TENANT}&type=lost",
            'type: "lost" is not one of created, acknowledged, resolved, repeated, escalated',
        ),
        ("/alerts/x?tenant_id=y", "alert_id: must be a UUID; tenant_id: must be a UUID"),
    ],
)
async def test_an_invalid_path_or_query_is_422_with_the_parameter_and_the_reason(
    client: httpx.AsyncClient, path: str, detail: str
) -> None:
    response = await client.get(path)
    assert (response.status_code, response.json()) == (422, {"error": "Validation error", "detail": detail})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"not json",
        VALID_JSON + b"}",
        VALID_JSON.replace(b'"m"', b'"\xff"'),
        VALID_JSON.replace(b'"m"', b'"\\ud800"'),
        b"[" * 100_000,
        b"null",
        json.dumps(VALID).encode("utf-16"),
    ],
    ids=[
        "empty",
        "blank",
        "incomplete",
        "text",
        "trailing characters",
        "not UTF-8",
        "unpaired surrogate",
        "nested",
        "null",
        "UTF-16",
    ],
)
async def test_a_body_that_is_not_a_json_object_is_422(client: httpx.AsyncClient, content: bytes) -> None:
    assert_error(await client.post("/alerts", content=content), 422, "Validation error", "body: ")


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("body", [{"note": 5}, {"note": "x" * 10_001}, {"note": "\0"}, {"text": "x"}, [], "x"])
async def test_an_invalid_note_is_422_and_does_not_change_the_alert(
    client: httpx.AsyncClient, tenant: UUID, verb: str, body: object
) -> None:
    alert = await create_alert(client, tenant)
    assert_error(await client.put(f"/alerts/{alert['id']}/{verb}", json=body), 422, "Validation error")
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/alerts/{id}"),
        ("PUT", "/alerts/{id}/acknowledge"),
        ("PUT", "/alerts/{id}/resolve"),
        ("GET", "/stats/{id}"),
    ],
)
@pytest.mark.parametrize("invalid_id", ["x", "123", TENANT + "0", f"urn:uuid:{TENANT}"])
async def test_an_id_that_is_not_a_uuid_is_422(
    client: httpx.AsyncClient, method: str, path: str, invalid_id: str
) -> None:
    response = await client.request(method, path.format(id=invalid_id))
    assert_error(response, 422, "Validation error", "_id: must be a UUID")


@pytest.mark.parametrize("tenant_id", ["x", "", "null", "NULL", "%6eull", f"{TENANT}&tenant_id=null"])
async def test_a_tenant_id_that_is_not_a_uuid_is_422(client: httpx.AsyncClient, tenant: UUID, tenant_id: str) -> None:
    """In particular, `null` does not mean any tenant."""
    alert = await create_alert(client, tenant)
    for method, verb in (("GET", ""), ("PUT", "/acknowledge")):
        response = await client.request(method, f"/alerts/{alert['id']}{verb}?tenant_id={tenant_id}")
        assert_error(response, 422, "Validation error", "tenant_id: ")
        assert "body" not in response.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/alerts/{id}"),
        ("PUT", "/alerts/{id}/acknowledge"),
        ("PUT", "/alerts/{id}/resolve"),
        ("GET", "/stats/{id}"),
        ("POST", "/alerts"),
    ],
)
async def test_an_unknown_parameter_is_422_and_changes_nothing(
    client: httpx.AsyncClient, tenant: UUID, method: str, path: str
) -> None:
    """If it were ignored, a misspelled tenant_id would remove the restriction to one tenant."""
    alert = await create_alert(client, tenant)
    response = await client.request(method, path.format(**alert), params={"tenant": str(tenant)})
    assert_error(response, 422, "Validation error", 'query: unknown parameter "tenant"')
    assert (await client.get("/alerts", params={"tenant_id": str(tenant)})).json() == [alert]


async def test_a_content_length_over_1_mib_is_413_before_the_body_is_read(app: AlertsApp) -> None:
    reads: list[Any] = []
    request = Input("POST", b"/alerts", b"", [(b"content-length", b"10000000000")], b"")
    status, _, _ = await answer(app, request, reads.append)
    assert (status, reads) == (413, [])


async def test_a_disconnect_during_the_body_is_not_logged_as_an_error(
    app: AlertsApp, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, _ = await answer(app, Input("POST", b"/alerts", b"", [], None))
    assert status == 408  # the access log has the level ERROR from 500 on
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("with_content_length", [True, False])
async def test_a_body_over_1_mib_is_413(client: httpx.AsyncClient, *, with_content_length: bool) -> None:
    """A body of exactly 1 MiB is accepted."""

    async def stream(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    def content(size: int) -> bytes | AsyncIterator[bytes]:
        body = VALID_JSON.ljust(size)
        return body if with_content_length else stream(body)

    rejected = await client.post("/alerts", content=content(MIB + 1))
    assert_error(rejected, 413, "Body too large", "1 MiB")
    assert (await client.post("/alerts", content=content(MIB))).status_code == 201
