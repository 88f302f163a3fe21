"""Bad input: always 422, in the one shape, with the field and the reason in the detail."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from alerts_service.web.middleware import AlertsApp
from tests.support.api import assert_error, create
from tests.support.asgi import Input, answer

pytestmark = pytest.mark.anyio

TENANT = "123e4567-e89b-12d3-a456-426614174000"
GOOD = {"tenant_id": TENANT, "rule_name": "r", "message": "m"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (without("tenant_id"), "tenant_id"),
        (without("rule_name"), "rule_name"),
        (without("message"), "message"),
        ({**GOOD, "tenant_id": "no-uuid"}, "tenant_id: Invalid UUID"),
        ({**GOOD, "tenant_id": None}, "tenant_id: Expected"),
        ({**GOOD, "rule_name": ""}, "rule_name: Expected `str` of length >= 1"),
        ({**GOOD, "rule_name": "x" * 256}, "rule_name: Expected `str` of length <= 255"),
        ({**GOOD, "rule_name": 5}, "rule_name: Expected `str`, got `int`"),
        ({**GOOD, "message": ""}, "message: Expected `str` of length >= 1"),
        ({**GOOD, "message": "x" * 10_001}, "message: Expected `str` of length <= 10000"),
        ({**GOOD, "message": "nul \0 inside"}, "message: must not hold the character NUL"),
        (
            {**GOOD, "severity": "urgent"},
            "severity: Invalid enum value 'urgent', must be one of critical, high, low, medium",
        ),
        ({**GOOD, "severity": None}, "severity"),
        ({**GOOD, "status": "resolved"}, "status"),
        ([GOOD], "body: Expected `object`, got `array`"),
    ],
)
async def test_a_body_that_breaks_the_contract(client: httpx.AsyncClient, body: object, detail: str) -> None:
    """A body that breaks the contract is refused with the field's name and the reason."""
    assert_error(await client.post("/alerts", json=body), 422, "Validation error", detail)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"not json",
        json.dumps(GOOD).encode() + b"}",
        json.dumps(GOOD).encode().replace(b'"m"', b'"\xff"'),
        json.dumps(GOOD).encode().replace(b'"m"', b'"\\ud800"'),
        b"[" * 100_000,
        b"null",
        json.dumps(GOOD).encode("utf-16"),
    ],
    ids=["empty", "blank", "cut", "text", "more", "not UTF-8", "half a surrogate", "nested", "null", "UTF-16"],
)
async def test_a_body_that_is_no_json(client: httpx.AsyncClient, content: bytes) -> None:
    """A body that is no JSON at all is refused like any other bad body."""
    assert_error(await client.post("/alerts", content=content), 422, "Validation error", "body: ")


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("body", [{"note": 5}, {"note": "x" * 10_001}, {"note": "\0"}, {"text": "x"}, [], "x"])
async def test_a_bad_note(client: httpx.AsyncClient, tenant: UUID, verb: str, body: object) -> None:
    """A note that breaks the contract is refused, and the alert stays as it was."""
    alert = await create(client, tenant)
    assert_error(await client.put(f"/alerts/{alert['id']}/{verb}", json=body), 422, "Validation error")
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/alerts/{bad}"),
        ("PUT", "/alerts/{bad}/acknowledge"),
        ("PUT", "/alerts/{bad}/resolve"),
        ("GET", "/stats/{bad}"),
    ],
)
@pytest.mark.parametrize("bad", ["x", "123", TENANT + "0", f"urn:uuid:{TENANT}"])
async def test_a_bad_id_in_a_path(client: httpx.AsyncClient, method: str, path: str, bad: str) -> None:
    """An id that is no UUID is 422, not 404."""
    assert_error(await client.request(method, path.format(bad=bad)), 422, "Validation error", "_id: Invalid UUID")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "tenant_id: required"),
        ("tenant_id=", "tenant_id: Invalid UUID"),
        ("tenant_id=x", "tenant_id: Invalid UUID"),
        (
            f"tenant_id={TENANT}&status=open",
            "status: Invalid enum value 'open', must be one of acknowledged, resolved, triggered",
        ),
        (f"tenant_id={TENANT}&severity=urgent", "severity: Invalid enum value 'urgent'"),
        (f"tenant_id={TENANT}&status=null", "status: must not be null"),
        (f"tenant_id={TENANT}&severity=Null", "severity: must not be null"),
        (f"tenant_id={TENANT}&cursor=x", "cursor: "),
        (f"tenant_id={TENANT}&cursor=", "cursor: "),
        (f"tenant_id={TENANT}&cursor={'9' * 32}", "cursor: "),
        (f"tenant_id={TENANT}&cursor=~~~~{'A' * 32}", "cursor: "),
        (f"tenant_id={TENANT}&cursor=%00", "cursor: "),
        (f"tenant_id={TENANT}&cursor=é", "cursor: "),
        (f"tenant_id={TENANT}&state=triggered", "state: not a parameter of this route"),
        (f"tenant_id={TENANT}&status=triggered&status=resolved", "status: given more than once"),
        (f"tenant_id={TENANT}&tenant_id={TENANT}", "tenant_id: given more than once"),
    ],
)
async def test_a_bad_list_query(client: httpx.AsyncClient, query: str, detail: str) -> None:
    """A list without a tenant, or with a parameter that makes no sense, is refused with its name."""
    assert_error(await client.get(f"/alerts?{query}"), 422, "Validation error", detail)


@pytest.mark.parametrize("owner", ["x", "", "null", "NULL", "%6eull", f"{TENANT}&tenant_id=null"])
async def test_a_bad_owner(client: httpx.AsyncClient, tenant: UUID, owner: str) -> None:
    """A tenant on a by-id route must be a UUID too; null is none, and does not stand for any tenant."""
    alert = await create(client, tenant)
    for method, verb in (("GET", ""), ("PUT", "/acknowledge")):
        response = await client.request(method, f"/alerts/{alert['id']}{verb}?tenant_id={owner}")
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
async def test_a_misspelled_owner(client: httpx.AsyncClient, tenant: UUID, method: str, path: str) -> None:
    """A parameter that a route does not know is refused, not dropped with whatever it meant, and nothing is done."""
    alert = await create(client, tenant)
    response = await client.request(method, path.format(**alert), params={"tenant": str(tenant)})
    assert_error(response, 422, "Validation error", "tenant: not a parameter of this route")
    assert (await client.get("/alerts", params={"tenant_id": str(tenant)})).json() == [alert]


async def test_a_body_that_announces_too_much_is_not_read(app: AlertsApp) -> None:
    """A body that announces more than 1 MiB is refused before a byte of it is taken."""
    asked: list[Any] = []
    request = Input("POST", b"/alerts", b"", [(b"content-length", b"10000000000")], b"")
    status, _, _ = await answer(app, request, asked.append)
    assert (status, asked) == (413, [])


async def test_a_caller_that_hangs_up_in_its_body(app: AlertsApp, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that has gone before its body was whole is nobody's fault here: no error is logged."""
    await answer(app, Input("POST", b"/alerts", b"", [], None))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_one_mebibyte(client: httpx.AsyncClient, *, declared: bool) -> None:
    """A body over 1 MiB is 413, whether its length is announced or not; one just below is read."""

    async def stream() -> Any:
        for _ in range(17):
            yield b" " * 65536

    content = b" " * (1 << 20) + b" " if declared else stream()
    assert_error(await client.post("/alerts", content=content), 413, "Body too large", "1 MiB")
    just_fits = json.dumps(GOOD).encode().ljust(1 << 20)
    assert (await client.post("/alerts", content=just_fits)).status_code == 201
