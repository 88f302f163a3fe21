"""Rate limits of tenants and of service keys."""

import json
import time
import tracemalloc
from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.db.database import Database
from alerts_service.errors import TooManyRequests
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from alerts_service.web.rate_limits import RateLimit
from tests.support.api import SERVICE_KEY, alert_body, assert_error, client_for, create_alert
from tests.support.routes import (
    PUBLIC_ROUTES,
    TENANT_NEUTRAL_VALUES,
    RequestValues,
    Route,
    request_parts,
    route_name,
    send_request,
)
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio

SERVICE_HEADERS = {"X-Service-Key": SERVICE_KEY}


def client_with_limits(
    app: AlertsApp, *, tenant_rate: str | None = None, key_rate: str | None = None, jwt_secret: str | None = None
) -> httpx.AsyncClient:
    """Create a client of a new application with these limits, which uses the database of `app`."""
    database: Database = app.state.database
    settings = Settings(
        internal_service_key=SERVICE_KEY,
        rate_limit_tenant=tenant_rate,
        rate_limit_key=key_rate,
        tenant_jwt_secret=jwt_secret,
    )
    return client_for(create_app(settings, database))


async def test_requests_over_the_tenant_limit_are_429_with_retry_after(app: AlertsApp, tenant: UUID) -> None:
    """The tenant may be named in the body, the query or the path. A request that names no tenant does not count."""
    async with client_with_limits(app, tenant_rate="4/hour") as client:
        alert = await create_alert(client, tenant)
        for path in (f"/alerts?tenant_id={tenant}", f"/stats/{tenant}", f"/alerts/{alert['id']}?tenant_id={tenant}"):
            assert (await client.get(path)).status_code == 200
        rejected = await client.get(f"/stats/{tenant}")
        assert_error(rejected, 429, "Too many requests", "rate limit of 4/hour for this tenant exceeded")
        assert 890 <= int(rejected.headers["retry-after"]) <= 900
        assert (await client.get(f"/stats/{uuid4()}")).status_code == 200
        assert (await client.get(f"/alerts/{alert['id']}")).status_code == 200


def request_naming(route: Route, tenant: UUID) -> RequestValues:
    """Return the values of a request that names a tenant. Its alert does not exist."""
    values = {
        **TENANT_NEUTRAL_VALUES,
        "tenant_id": str(tenant),
        "alert_id": str(uuid4()),
        "ids": [str(uuid4())],
        "alerts": [alert_body(tenant)],
    }
    return {key: values[key[1]] for key in request_parts(route).keys("path", "query", "body") if key[1] in values}


async def is_rate_limited(client: httpx.AsyncClient, route: Route, named_tenant: UUID, token: str = "") -> bool:
    response = await send_request(client, route, request_naming(route, named_tenant), bearer_header(token))
    assert response.status_code < 500
    return response.status_code == 429 or b'"status":429' in response.content


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=route_name)
async def test_a_request_counts_once_for_the_tenant_that_it_names(app: AlertsApp, route: Route) -> None:
    tenant, other_tenant = uuid4(), uuid4()
    async with client_with_limits(app, tenant_rate="2/hour") as client:
        assert [await is_rate_limited(client, route, tenant) for _ in range(3)] == [False, False, True]
        assert not await is_rate_limited(client, route, other_tenant)


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=route_name)
async def test_with_tokens_a_request_counts_for_the_tenant_of_the_token_only(app: AlertsApp, route: Route) -> None:
    tenant, other_tenant = uuid4(), uuid4()
    token, other_token = sign_token("HS256", tenant), sign_token("HS256", other_tenant)
    async with client_with_limits(app, tenant_rate="2/hour", jwt_secret=JWT_SECRET) as client:
        limited = [await is_rate_limited(client, route, other_tenant, token) for _ in range(3)]
        assert limited == [False, False, True]
        limited = [await is_rate_limited(client, route, other_tenant, other_token) for _ in range(3)]
        assert limited == [False, False, True]


async def test_a_repeated_transition_counts_once(app: AlertsApp, tenant: UUID) -> None:
    """A transition that changes nothing runs two statements."""
    async with client_with_limits(app, tenant_rate="4/hour") as client:
        path = f"/alerts/{(await create_alert(client, tenant))['id']}/resolve?tenant_id={tenant}"
        assert [(await client.put(path)).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_invalid_requests_do_not_count(app: AlertsApp, tenant: UUID) -> None:
    async with client_with_limits(app, tenant_rate="1/hour") as client:
        path = f"/alerts?tenant_id={tenant}"
        queries = ("&status=no", "&other=1", "&cursor=no", "", "")
        assert [(await client.get(path + query)).status_code for query in queries] == [422, 422, 422, 200, 429]


async def test_a_short_ndjson_request_counts_once_and_an_empty_one_does_not(app: AlertsApp, tenant: UUID) -> None:
    token_header = bearer_header(sign_token("HS256", tenant))
    line = json.dumps(alert_body(tenant)).encode()
    async with client_with_limits(app, tenant_rate="1/hour", jwt_secret=JWT_SECRET) as client:
        assert (await client.post("/alerts/bulk", headers=token_header)).status_code == 422
        headers = {**token_header, "Content-Type": "application/x-ndjson"}
        response = await client.post("/alerts/bulk", content=line, headers=headers)
        assert response.json()["status"] == 201
        assert (await client.post("/alerts/bulk", content=line, headers=headers)).status_code == 429


async def test_internal_requests_are_not_limited_by_the_tenant_limit(app: AlertsApp, tenant: UUID) -> None:
    async with client_with_limits(app, tenant_rate="1/hour") as client:
        assert [(await client.get(f"/stats/{tenant}")).status_code for _ in range(2)] == [200, 429]
        body = alert_body(tenant)
        response = await client.post("/internal/alerts", json=body, headers=SERVICE_HEADERS)
        assert response.status_code == 201
        response = await client.post("/internal/alerts/bulk", json={"alerts": [body]}, headers=SERVICE_HEADERS)
        assert response.json()["results"][0]["status"] == 201
        for target in ({"ids": [str(tenant)]}, {"filter": {"tenant_id": str(tenant)}}):
            path = f"/internal/alerts/bulk/resolve?tenant_id={tenant}"
            assert (await client.post(path, json=target, headers=SERVICE_HEADERS)).status_code == 200


async def test_service_keys_have_a_limit_that_wrong_keys_do_not_consume(app: AlertsApp, tenant: UUID) -> None:
    async with client_with_limits(app, key_rate="2/minute") as client:

        async def post(key: str) -> httpx.Response:
            return await client.post("/internal/alerts", json=alert_body(tenant), headers={"X-Service-Key": key})

        assert [(await post(key)).status_code for key in ("no", "no", "no", SERVICE_KEY, SERVICE_KEY)] == [
            401,
            401,
            401,
            201,
            201,
        ]
        rejected = await post(SERVICE_KEY)
        assert_error(rejected, 429, "Too many requests", "rate limit of 2/minute for this service key exceeded")
        assert 25 <= int(rejected.headers["retry-after"]) <= 30
        await create_alert(client, tenant)


async def test_requests_are_not_limited_by_default(client: httpx.AsyncClient, tenant: UUID) -> None:
    assert {(await client.get(f"/stats/{tenant}")).status_code for _ in range(50)} == {200}


def test_a_bucket_at_its_limit_is_not_evicted() -> None:
    """300,000 other clients send one request each, and no eviction takes 5 ms."""
    limit = RateLimit("tenant", "5/minute")
    for _ in range(5):
        limit.count("in use")
    slowest = 0.0
    for number in range(300_000):
        started = time.thread_time()
        limit.count(str(number))
        slowest = max(slowest, time.thread_time() - started)
    with pytest.raises(TooManyRequests):
        limit.count("in use")
    assert slowest < 0.005


def test_the_memory_of_buckets_is_bounded() -> None:
    limit = RateLimit("tenant", "5/minute")
    tracemalloc.start()
    for number in range(300_000):
        limit.count(number.to_bytes(16, "big"))
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated < 24 * 1024 * 1024


@pytest.mark.parametrize(("count", "period"), [(3, "second"), (7, "minute"), (999, "minute"), (1, "hour")])
def test_a_burst_of_exactly_the_rate_is_accepted(monkeypatch: pytest.MonkeyPatch, count: int, period: str) -> None:
    """One more request is accepted after the number of seconds in `Retry-After`."""
    now = 10**18 + 7
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    limit = RateLimit("tenant", f"{count}/{period}")
    for _ in range(count):
        limit.count("a")
    with pytest.raises(TooManyRequests) as raised:
        limit.count("a")
    now += int(raised.value.headers["Retry-After"]) * 10**9
    limit.count("a")
