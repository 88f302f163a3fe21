"""Protection against requests that a browser sends for another site, and against unknown host names."""

import json
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, alert_body, assert_error, client_for, create_alert

pytestmark = pytest.mark.anyio

ALLOWED = "https://app.example.com"
FOREIGN = "https://evil.example"
UNREAD_BODY = {"rejected": "before it is read"}


@pytest.fixture(scope="module")
async def restricted(app: AlertsApp, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that allows one origin and two patterns of host names."""
    restrictions = replace(settings, cors_origins=ALLOWED, allowed_hosts="alerts.test, *.example.com")
    async with client_for(create_app(restrictions, app.state.database)) as client:
        yield client


SITES = [None, "same-origin", "none", "same-site", "cross-site", "unknown"]
ORIGINS = [
    (None, None),
    (ALLOWED, None),
    ("http://alerts.test", "alerts.test"),
    ("http://alerts.test", "alerts.test:80"),
    ("https://alerts.test", "alerts.test:443"),
    ("https://alerts.test", "ALERTS.test"),
    ("http://alerts.test:3101", "alerts.test:3101"),
    ("http://[::1]:3101", "[::1]:3101"),
    ("http://alerts.test:3101", "alerts.test"),
    ("http://alerts.test", "alerts.test:443"),
    ("http://alerts.test:80.evil.example", "alerts.test"),
    ("http://evil.example", "alerts.test"),
    (FOREIGN, "alerts.test"),
    (f"{ALLOWED}.evil.example", None),
    ("null", None),
    ("", None),
    ("chrome-extension://alerts.test", "alerts.test"),
]
SAME_ORIGIN = ORIGINS[2:8]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("origin", "host"), ORIGINS)
async def test_only_the_same_origin_and_allowed_origins_may_change_alerts(
    restricted: httpx.AsyncClient, tenant: UUID, origin: str | None, host: str | None, site: str | None
) -> None:
    candidates = {"Origin": origin, "Sec-Fetch-Site": site, "Host": host}
    headers = {name: value for name, value in candidates.items() if value is not None}
    response = await restricted.post("/alerts", json=alert_body(tenant), headers=headers)
    if origin == ALLOWED or site in {"same-origin", "none"}:
        accepted = True
    else:
        accepted = site is None and (origin is None or (origin, host) in SAME_ORIGIN)
    if accepted:
        assert response.status_code == 201, response.text
    else:
        detail = f'Origin: "{origin}" is neither' if site is None else f'Sec-Fetch-Site: "{site}" is not one of'
        assert_error(response, 403, "Forbidden", detail)
    alerts = await restricted.get("/alerts", params={"tenant_id": str(tenant)})
    assert len(alerts.json()) == accepted


async def test_every_state_changing_operation_rejects_other_sites(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    operations = [(method, path, operation) for path, item in paths.items() for method, operation in item.items()]
    state_changing = [operation for operation in operations if operation[0] != "get"]
    assert len(state_changing) >= 9
    for method, path, operation in state_changing:
        url = path.format(alert_id=UUID(int=0))
        for headers in ({"Origin": FOREIGN}, {"Sec-Fetch-Site": "same-site"}):
            response = await client.request(
                method, url, json=UNREAD_BODY, headers={**headers, "X-Service-Key": SERVICE_KEY}
            )
            assert_error(response, 403, "Forbidden")
        assert operation["responses"]["403"]["content"]["application/json"]["example"]["error"] == "Forbidden"


@pytest.mark.parametrize("path", ["/nope", "/alerts"])
@pytest.mark.parametrize("method", ["DELETE", "PATCH", "TRACE"])
async def test_unknown_methods_are_rejected_before_the_path_is_looked_up(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    assert_error(await client.request(method, path, headers={"Origin": FOREIGN}), 403, "Forbidden")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_methods_are_accepted_from_any_site(client: httpx.AsyncClient, method: str) -> None:
    headers = {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"}
    assert (await client.request(method, "/health/live", headers=headers)).is_success


BROWSER_HEADERS = [{"Origin": ALLOWED}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Mode": "no-cors"}]


@pytest.mark.parametrize("headers", BROWSER_HEADERS)
async def test_a_browser_must_declare_the_type_of_a_body(
    restricted: httpx.AsyncClient, tenant: UUID, headers: dict[str, str]
) -> None:
    body = json.dumps(alert_body(tenant))
    undeclared = await restricted.post("/alerts", content=body, headers=headers)
    assert_error(
        undeclared, 415, "Unsupported media type", "Content-Type: missing; a browser must send application/json"
    )
    assert undeclared.headers.get("access-control-allow-origin") == headers.get("Origin")
    declared = await restricted.post("/alerts", content=body, headers={**headers, "Content-Type": "application/json"})
    assert declared.status_code == 201
    ndjson = {**headers, "Content-Type": "application/x-ndjson"}
    assert (await restricted.post("/alerts/bulk", content=body, headers=ndjson)).json()["status"] == 201
    assert (await restricted.post("/alerts", content=body)).status_code == 201


async def test_a_browser_may_omit_an_optional_body(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    response = await client.put(f"/alerts/{alert['id']}/resolve", headers={"Sec-Fetch-Site": "same-origin"})
    assert response.json()["status"] == "resolved"


PATHS = ["/health/live", "/alerts", "/docs", "/openapi.json", "/docs/static/index.css", "/nope"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_an_unknown_host_is_rejected_on_every_route(
    restricted: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await restricted.request(method, path, headers={"Host": "rebound.evil.example"})
    assert response.status_code == 400
    if method == "HEAD":
        assert response.content == b""
    else:
        assert_error(response, 400, "Bad request", 'Host: "rebound.evil.example" is not one of AS_ALERTS_ALLOWED_HOSTS')


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("alerts.test", True),
        ("ALERTS.TEST:3101", True),
        ("alerts.test.", True),
        ("a.example.com", True),
        ("a.b.example.com:80", True),
        ("localhost", True),
        ("localhost:3101", True),
        ("127.0.0.1", True),
        ("192.0.2.7:3101", True),
        ("[::1]", True),
        ("[2001:db8::1]:3101", True),
        ("example.com", False),
        ("alerts.test.evil.example", False),
        ("alertsxtest", False),
        ("evilexample.com", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("localhost:", False),
        ("[evil]", False),
        ("alerts.test, evil.example", False),
    ],
)
async def test_hosts_match_the_setting_or_are_ip_addresses_or_localhost(
    restricted: httpx.AsyncClient,
    host: str,
    accepted: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    response = await restricted.get("/health/live", headers={"Host": host})
    assert response.status_code == (200 if accepted else 400)


async def test_any_host_is_accepted_without_the_setting(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live", headers={"Host": "any.example"})).status_code == 200
