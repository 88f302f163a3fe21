"""Rate limits, of tenants and of service keys."""

import json
import time
import tracemalloc
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.db.database import Database
from alerts_service.errors import TooManyRequests
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from alerts_service.web.rate_limits import RateLimit
from tests.support.api import SERVICE_KEY, assert_error, client_for, create_alert
from tests.support.routes import HARMLESS_VALUES, PUBLIC, Route, request_parts, route_name, send_request
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio


def limited(
    app: AlertsApp, *, tenant: str | None = None, key: str | None = None, secret: str | None = None
) -> httpx.AsyncClient:
    """Make a client of an application with limits, on the database of another."""
    database: Database = app.state.database
    settings = Settings(
        internal_service_key=SERVICE_KEY, rate_limit_tenant=tenant, rate_limit_key=key, tenant_jwt_secret=secret
    )
    return client_for(create_app(settings, database))


async def test_a_tenant_that_calls_too_often(app: AlertsApp, tenant: UUID) -> None:
    """A tenant's calls count wherever its id is given; the one too many is told the limit and when to come again."""
    async with limited(app, tenant="4/hour") as client:
        alert = await create_alert(client, tenant)
        for path in (f"/alerts?tenant_id={tenant}", f"/stats/{tenant}", f"/alerts/{alert['id']}?tenant_id={tenant}"):
            assert (await client.get(path)).status_code == 200
        late = await client.get(f"/stats/{tenant}")
        assert_error(late, 429, "Too many requests", "rate limit of 4/hour for this tenant exceeded")
        assert 890 <= int(late.headers["retry-after"]) <= 900
        assert (await client.get(f"/stats/{uuid4()}")).status_code == 200
        assert (await client.get(f"/alerts/{alert['id']}")).status_code == 200


def naming(route: Route, tenant: UUID) -> dict[tuple[str, str], Any]:
    """Fill in a request that names a tenant, and else an alert that is not there."""
    alert = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    values = {
        **HARMLESS_VALUES,
        "tenant_id": str(tenant),
        "alert_id": str(uuid4()),
        "ids": [str(uuid4())],
        "alerts": [alert],
    }
    places = [(place, name) for place in ("path", "query", "body") for name in getattr(request_parts(route), place)]
    return {(place, name): values[name] for place, name in places if name in values}


async def refused(client: httpx.AsyncClient, route: Route, tenant: UUID, token: str = "") -> bool:
    response = await send_request(client, route, naming(route, tenant), bearer_header(token))
    assert response.status_code < 500
    return response.status_code == 429 or b'"status":429' in response.content


@pytest.mark.parametrize("route", PUBLIC, ids=route_name)
async def test_every_route_counts(app: AlertsApp, route: Route) -> None:
    """A call of any public route counts once, however many statements it takes, for the tenant that it names."""
    one, other = uuid4(), uuid4()
    async with limited(app, tenant="2/hour") as client:
        assert [await refused(client, route, one) for _ in range(3)] == [False, False, True]
        assert not await refused(client, route, other)


@pytest.mark.parametrize("route", PUBLIC, ids=route_name)
async def test_a_token_counts_for_its_own_tenant(app: AlertsApp, route: Route) -> None:
    """With tokens a call counts for the token's tenant, whomever it names, and uses up nothing of theirs."""
    one, other = uuid4(), uuid4()
    its, others = sign_token("HS256", one), sign_token("HS256", other)
    async with limited(app, tenant="2/hour", secret=JWT_SECRET) as client:
        assert [await refused(client, route, other, its) for _ in range(3)] == [False, False, True]
        assert [await refused(client, route, other, others) for _ in range(3)] == [False, False, True]


async def test_a_request_of_two_statements_counts_once(app: AlertsApp, tenant: UUID) -> None:
    """A change that was made before takes two statements, and is one call."""
    async with limited(app, tenant="4/hour") as client:
        path = f"/alerts/{(await create_alert(client, tenant))['id']}/resolve?tenant_id={tenant}"
        assert [(await client.put(path)).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_a_bad_request_does_not_count(app: AlertsApp, tenant: UUID) -> None:
    """What is refused for what it says is no call of its tenant."""
    async with limited(app, tenant="1/hour") as client:
        path = f"/alerts?tenant_id={tenant}"
        queries = ("&status=no", "&other=1", "&cursor=no", "", "")
        assert [(await client.get(path + query)).status_code for query in queries] == [422, 422, 422, 200, 429]


async def test_a_stream_counts_once(app: AlertsApp, tenant: UUID) -> None:
    """A stream that comes at once is one call of its token's tenant, and an empty body is none."""
    its = bearer_header(sign_token("HS256", tenant))
    line = json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": "m"}).encode()
    async with limited(app, tenant="1/hour", secret=JWT_SECRET) as client:
        assert (await client.post("/alerts/bulk", headers=its)).status_code == 422
        stream = {**its, "Content-Type": "application/x-ndjson"}
        answer = await client.post("/alerts/bulk", content=line, headers=stream)
        assert answer.json()["status"] == 201
        assert (await client.post("/alerts/bulk", content=line, headers=stream)).status_code == 429


async def test_a_service_does_not_count_for_a_tenant(app: AlertsApp, tenant: UUID) -> None:
    """A tenant that has called too often still gets the alerts that services record for it."""
    async with limited(app, tenant="1/hour") as client:
        assert [(await client.get(f"/stats/{tenant}")).status_code for _ in range(2)] == [200, 429]
        body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
        answer = await client.post("/internal/alerts", json=body, headers={"X-Service-Key": SERVICE_KEY})
        assert answer.status_code == 201
        answer = await client.post(
            "/internal/alerts/bulk", json={"alerts": [body]}, headers={"X-Service-Key": SERVICE_KEY}
        )
        assert answer.json()["results"][0]["status"] == 201
        for target in ({"ids": [str(tenant)]}, {"filter": {"tenant_id": str(tenant)}}):
            answer = await client.post(
                f"/internal/alerts/bulk/resolve?tenant_id={tenant}", json=target, headers={"X-Service-Key": SERVICE_KEY}
            )
            assert answer.status_code == 200


async def test_a_service_key_that_calls_too_often(app: AlertsApp, tenant: UUID) -> None:
    """Calls with a service key have a limit of their own, which a wrong key does not use up."""
    async with limited(app, key="2/minute") as client:
        body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}

        async def post(key: str) -> httpx.Response:
            return await client.post("/internal/alerts", json=body, headers={"X-Service-Key": key})

        assert [(await post(key)).status_code for key in ("no", "no", "no", SERVICE_KEY, SERVICE_KEY)] == [
            401,
            401,
            401,
            201,
            201,
        ]
        late = await post(SERVICE_KEY)
        assert_error(late, 429, "Too many requests", "rate limit of 2/minute for this service key exceeded")
        assert 25 <= int(late.headers["retry-after"]) <= 30
        await create_alert(client, tenant)


async def test_no_limits_unless_they_are_set(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Without a limit everybody may call as often as they like."""
    assert {(await client.get(f"/stats/{tenant}")).status_code for _ in range(50)} == {200}


def test_other_names_do_not_displace_a_bucket_in_use() -> None:
    """A bucket at its limit is kept beside 300,000 others of one call each, and no call waits long for an eviction."""
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


def test_memory_for_buckets_is_bounded() -> None:
    limit = RateLimit("tenant", "5/minute")
    tracemalloc.start()
    for number in range(300_000):
        limit.count(number.to_bytes(16, "big"))
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated < 24 * 1024 * 1024


@pytest.mark.parametrize(("count", "period"), [(3, "second"), (7, "minute"), (999, "minute"), (1, "hour")])
def test_a_burst_is_exactly_the_rate(monkeypatch: pytest.MonkeyPatch, count: int, period: str) -> None:
    """At one moment exactly so many calls pass, and one more after the seconds in `Retry-After`."""
    now = 10**18 + 7
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    limit = RateLimit("tenant", f"{count}/{period}")
    for _ in range(count):
        limit.count("a")
    with pytest.raises(TooManyRequests) as refusal:
        limit.count("a")
    now += int(refusal.value.headers["Retry-After"]) * 10**9
    limit.count("a")
