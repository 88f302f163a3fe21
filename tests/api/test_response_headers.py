"""Response headers for browsers and caches: CORS, Cache-Control, Vary, X-Content-Type-Options, Referrer-Policy."""

from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import UNKNOWN_ALERT_ID, client_for, create_alert

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example.com"


@pytest.mark.parametrize(
    ("origins", "origin", "method", "allowed_origin"),
    [
        (None, ORIGIN, "PUT", None),
        (f"https://a.example, {ORIGIN}", ORIGIN, "PUT", ORIGIN),
        (ORIGIN, ORIGIN, "DELETE", None),
        (ORIGIN, "https://evil.example", "PUT", None),
        (ORIGIN, ORIGIN + ".evil.example", "PUT", None),
        (ORIGIN, ORIGIN.replace(".", "x"), "PUT", None),
    ],
    ids=[
        "no origins are configured",
        "one of two origins",
        "unsupported method",
        "another origin",
        "suffix of an origin",
        "dots are literal",
    ],
)
async def test_cors_allows_the_configured_origins_only(
    origins: str | None, origin: str, method: str, allowed_origin: str | None
) -> None:
    """The response to a preflight request that is not allowed is that to any OPTIONS request."""
    path = f"/alerts/{UNKNOWN_ALERT_ID}/resolve"
    preflight_headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }
    async with client_for(create_app(Settings(cors_origins=origins))) as client:
        preflight = await client.options(path, headers=preflight_headers)
        get = await client.get("/health/live", headers={"Origin": origin})
        options = await client.options(path, headers={"Origin": origin})
    assert preflight.status_code == 204
    assert preflight.headers.get("access-control-allow-origin") == allowed_origin
    assert get.headers.get("access-control-allow-origin") == (origin if origin in (origins or "").split(", ") else None)
    assert ("PUT" in preflight.headers.get("access-control-allow-methods", "")) == (allowed_origin is not None)
    assert options.headers["allow"] == "OPTIONS, PUT"
    if allowed_origin is None:
        assert preflight.headers.keys() == options.headers.keys()


REVALIDATED = "private, no-cache"
CACHE_CONTROL = [
    ("GET", "/health/live", 200, "no-store"),
    ("GET", "/alerts?tenant_id={alert[tenant_id]}", 200, "no-store"),
    ("GET", "/alerts", 422, "no-store"),
    ("GET", "/alerts/{alert[id]}", 200, REVALIDATED),
    ("HEAD", "/alerts/{alert[id]}", 200, REVALIDATED),
    ("OPTIONS", "/alerts/{alert[id]}", 204, "no-store"),
    ("GET", "/alerts/{alert[id]}/history", 200, "no-store"),
    ("GET", f"/alerts/{UNKNOWN_ALERT_ID}", 404, "no-store"),
    ("GET", "/stats/{alert[tenant_id]}", 200, "no-store"),
    ("PUT", "/alerts/{alert[id]}/acknowledge", 200, "no-store"),
    ("PUT", f"/alerts/{UNKNOWN_ALERT_ID}/resolve", 404, "no-store"),
    ("POST", "/alerts", 422, "no-store"),
    ("POST", "/internal/alerts", 401, "no-store"),
    ("DELETE", "/alerts", 405, "no-store"),
    ("GET", "/nope", 404, "no-store"),
    ("GET", "/docs", 200, "no-store"),
    ("GET", "/openapi.json", 200, "no-store"),
    ("GET", "/docs/static/index.css", 200, "max-age=3600, public"),
    ("HEAD", "/docs/static/index.css", 200, "max-age=3600, public"),
    ("GET", "/docs/static/nope.css", 404, "no-store"),
]


@pytest.mark.parametrize("origins", [None, ORIGIN], ids=["no CORS", "CORS"])
@pytest.mark.parametrize("origin", [None, ORIGIN, "https://evil.example"])
async def test_every_response_has_cache_control_vary_and_nosniff(
    app: AlertsApp, settings: Settings, tenant: UUID, origins: str | None, origin: str | None
) -> None:
    headers = {"Origin": origin} if origin else {}
    async with client_for(create_app(replace(settings, cors_origins=origins), app.state.database)) as client:
        alert = await create_alert(client, tenant)
        responses = [
            await client.request(method, path.format(alert=alert), headers=headers)
            for method, path, *_ in CACHE_CONTROL
        ]
        etag = (await client.get(f"/alerts/{alert['id']}")).headers["etag"]
        responses.append(await client.get(f"/alerts/{alert['id']}", headers={"If-None-Match": etag, **headers}))
    for response in responses:
        assert response.headers.get_list("x-content-type-options") == ["nosniff"], response.url
        assert response.headers.get_list("vary") == (["Origin"] if origins else []), response.url
    expected = [(status, [cache_control]) for *_, status, cache_control in CACHE_CONTROL]
    if origin and origin != origins:  # state-changing requests are rejected
        expected = [
            (403, ["no-store"]) if method in {"PUT", "POST", "DELETE"} else status_and_header
            for (method, *_), status_and_header in zip(CACHE_CONTROL, expected, strict=True)
        ]
    expected.append((304, [REVALIDATED]))
    assert [(response.status_code, response.headers.get_list("cache-control")) for response in responses] == expected


async def test_the_documentation_page_sends_no_referrer(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["referrer-policy"] == "no-referrer"
