"""Requests that come again with their Idempotency-Key: done once, and answered as they were at first."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, assert_error, client_for, create_alert
from tests.support.processes import serving
from tests.support.routes import ROUTES, Party, Route, TwoTenants, fill_in, request_variants, route_name, send_request
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio


INTERNAL = {"x-service-key": SERVICE_KEY}
CHANGES = [route for route in ROUTES if route[0] in {"POST", "PUT"}]


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def guarded(app: AlertsApp, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that asks for tokens."""
    async with client_for(create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)) as client:
        yield client


def body_of(tenant: UUID, message: str = "Call back") -> dict[str, str]:
    return {"tenant_id": str(tenant), "rule_name": "missed_call", "message": message}


async def post(client: httpx.AsyncClient, tenant: UUID, key: str, message: str = "Call back") -> httpx.Response:
    return await client.post("/alerts", json=body_of(tenant, message), headers={"Idempotency-Key": key})


async def count(connection: Any, tenant: UUID, table: str = "alerts") -> int:
    rows: int = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant)
    return rows


def owned(world: TwoTenants, route: Route) -> dict[tuple[str, str], str]:
    """Fill in a request with things of the victim alone."""
    chosen = next(request_variants(route, world))
    return fill_in({place: world.victim if isinstance(value, Party) else value for place, value in chosen.items()}, {})


def assert_replayed(first: httpx.Response, again: httpx.Response) -> None:
    """The same answer, byte for byte, which says that it is one."""
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("etag") == first.headers.get("etag")
    assert again.headers["content-type"] == first.headers["content-type"]


@pytest.mark.parametrize("route", CHANGES, ids=route_name)
async def test_every_change_takes_a_key(world: TwoTenants, route: Route) -> None:
    """Every POST and PUT answers a repeated key with its first answer, and changes nothing more."""
    values = owned(world, route)
    headers = {**bearer_header(sign_token("HS256", world.victim.tenant)), **INTERNAL, "Idempotency-Key": uuid4().hex}
    first = await send_request(world.client, route, values, headers)
    assert first.status_code in {200, 201}, first.text
    before = await world.kept()
    assert_replayed(first, await send_request(world.client, route, values, headers))
    assert await world.kept() == before


@pytest.mark.parametrize("route", CHANGES, ids=route_name)
async def test_what_is_no_key(world: TwoTenants, route: Route) -> None:
    """Every POST and PUT refuses what is no key, and changes nothing."""
    before = await world.kept()
    for key in ("", '"', '""', "a b", '"a', '"a b"', '"a\\b"', '"a";b=1', "é", "a" * 256, f'"{"a" * 256}"'):
        headers: Any = {
            **bearer_header(sign_token("HS256", world.victim.tenant)),
            **INTERNAL,
            "Idempotency-Key": key.encode(),
        }
        response = await send_request(world.client, route, owned(world, route), headers)
        assert_error(response, 422, "Validation error", "Idempotency-Key: must be 1 to 255")
    assert await world.kept() == before


async def test_two_keys(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A request with two keys is refused: nobody knows which of them it means."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    response = await client.post("/alerts", json=body_of(tenant), headers=headers)
    assert_error(response, 422, "Validation error", "Idempotency-Key")


@pytest.mark.parametrize("key", ["a", 'a"\\b', "!" * 255, '\\"' * 127, "~#[]"])
async def test_quotes_around_a_key(client: httpx.AsyncClient, tenant: UUID, key: str) -> None:
    """A key is the same with quotes around it, as the draft has it, and without."""
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    assert_replayed(await post(client, tenant, key), await post(client, tenant, f'"{quoted}"'))


async def test_a_change_is_made_once(client: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """However often a change is repeated, it is one change, one event, and one in the statistics."""
    answers = [await post(client, tenant, "a") for _ in range(3)]
    moves = [
        await client.put(
            f"/alerts/{answers[0].json()['id']}/acknowledge", json={"note": "n"}, headers={"Idempotency-Key": "a"}
        )
        for _ in range(3)
    ]
    for first, *repeated in (answers, moves):
        assert first.headers["etag"] == f'"{first.json()["updated_at"]}"'
        for again in repeated:
            assert_replayed(first, again)
    history = (await client.get("/history", params={"tenant_id": str(tenant)})).json()
    assert [event["type"] for event in history] == ["created", "acknowledged"]
    assert (await client.get(f"/stats/{tenant}")).json() == {
        "total": 1,
        "triggered": 0,
        "acknowledged": 1,
        "resolved": 0,
    }
    assert await count(connection, tenant) == 1


async def test_without_a_key_nothing_is_kept(client: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """Who gives no key is answered as ever, each time anew, and nothing is kept of it."""
    answers = [await client.post("/alerts", json=body_of(tenant)) for _ in range(2)]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert all("idempotent-replayed" not in answer.headers for answer in answers)
    assert await count(connection, tenant, "idempotency_keys") == 0


async def test_the_first_answer_is_the_answer(client: httpx.AsyncClient, tenant: UUID) -> None:
    """What is repeated is answered as at first, though the alert has changed since; its tag is of that time too."""
    first = await post(client, tenant, "a")
    assert (await client.put(f"/alerts/{first.json()['id']}/resolve")).status_code == 200
    assert_replayed(first, await post(client, tenant, "a"))


async def test_another_request(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A key that comes again with another body or another tag is refused, and its answer stays."""
    alert = await create_alert(client, tenant)
    path, key = f"/alerts/{alert['id']}/resolve", {"Idempotency-Key": "a"}
    first = await client.put(path, json={"note": "a"}, headers=key)
    for again in (
        await client.put(path, json={"note": "b"}, headers=key),
        await client.put(path, headers=key),
        await client.put(path, json={"note": "a"}, headers={**key, "If-Match": "*"}),
    ):
        assert_error(again, 422, "Validation error", "Idempotency-Key: already used for a different request")
    assert_replayed(first, await client.put(path, json={"note": "a"}, headers=key))


async def test_whose_a_key_is(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The same key of another tenant, on another route or for another alert is another key."""
    first, other = await post(client, tenant, "a"), await post(client, uuid4(), "a")
    internal = await client.post("/internal/alerts", json=body_of(tenant), headers={**INTERNAL, "Idempotency-Key": "a"})
    assert len({answer.json()["id"] for answer in (first, other, internal)}) == 3
    for answer in (first, internal):
        for verb in ("acknowledge", "resolve"):
            path = f"/alerts/{answer.json()['id']}/{verb}"
            moved = await client.put(path, headers={"Idempotency-Key": "a"})
            assert (moved.status_code, moved.json()["status"][:7]) == (200, f"{verb}d"[:7])
            assert "idempotent-replayed" not in moved.headers
            assert_replayed(moved, await client.put(f"//{path}/", headers={"Idempotency-Key": "a"}))


async def test_the_tenant_of_a_token(guarded: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """With a token a key is its tenant's, whomever the request names; another's key gives nothing of another's away."""
    own, other = ({**bearer_header(sign_token("HS256", each)), "Idempotency-Key": "a"} for each in (tenant, uuid4()))
    created = await guarded.post("/alerts", json=body_of(tenant), headers=own)
    path = f"/alerts/{created.json()['id']}/resolve"
    moved = await guarded.put(path, headers=own)
    for named_tenant in (None, tenant):
        params = {"tenant_id": str(named_tenant)} if named_tenant else {}
        for _ in range(2):
            stolen = await guarded.put(path, headers={**other, "Idempotency-Key": f"b{named_tenant}"}, params=params)
            assert_error(stolen, 404, "Alert not found")
    assert_error(await guarded.put(path, headers=other), 404, "Alert not found")
    assert_replayed(moved, await guarded.put(path, headers=own))
    again = await guarded.put(path, headers=own, params={"tenant_id": str(tenant)})
    assert_error(again, 422, "Validation error", "Idempotency-Key: already used for a different request")
    assert await count(connection, tenant, "idempotency_keys") == 2


async def test_refusals_are_answers(client: httpx.AsyncClient, tenant: UUID) -> None:
    """That an alert was not there, not as it should be, or elsewhere in its life is an answer that is given again."""
    alert = await create_alert(client, tenant)
    path = f"/alerts/{alert['id']}/acknowledge"
    calls: list[tuple[int, str, dict[str, str]]] = [
        (404, f"/alerts/{uuid4()}/acknowledge", {}),
        (412, path, {"If-Match": '"other"'}),
        (409, path, {}),
    ]
    assert (await client.put(f"/alerts/{alert['id']}/resolve")).status_code == 200
    for status, route, headers in calls:
        given = {**headers, "Idempotency-Key": str(status)}
        first = await client.put(route, headers=given)
        assert first.status_code == status
        assert_replayed(first, await client.put(route, headers=given))


async def test_what_is_no_answer(guarded: httpx.AsyncClient, tenant: UUID) -> None:
    """What did not get as far as to be tried leaves its key free."""
    key = {"Idempotency-Key": "a"}
    own = {**bearer_header(sign_token("HS256", tenant)), **key}
    failed = [
        await guarded.post("/alerts", json=body_of(tenant), headers=key),
        await guarded.post("/alerts", json=body_of(uuid4()), headers=own),
        await guarded.post("/alerts", content=b" " * (1024 * 1024 + 1), headers=own),
        await guarded.post("/alerts", json=body_of(tenant), headers={**own, "Content-Type": "text/plain"}),
        await guarded.post("/alerts", json={}, headers=own),
        await guarded.post("/alerts?x=1", json=body_of(tenant), headers=own),
    ]
    assert [response.status_code for response in failed] == [401, 403, 413, 415, 422, 422]
    created = await guarded.post("/alerts", json=body_of(tenant), headers=own)
    assert created.status_code == 201
    assert "idempotent-replayed" not in created.headers


async def test_a_failure_leaves_nothing(
    client: httpx.AsyncClient, tenant: UUID, connection: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """When the database cannot do it, nothing is kept, the key is free, and no connection is left in the middle."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE idempotency_keys IN EXCLUSIVE MODE")  # after the alert was recorded
        assert_error(await post(client, tenant, "a"), 503, "Service unavailable", "could not lock the alert in time")
    assert await count(connection, tenant) == 0
    states = await connection.fetch("SELECT state FROM pg_stat_activity WHERE datname = current_database()")
    assert "in transaction" not in str(states)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert (await post(client, tenant, "a")).status_code == 201
    assert await count(connection, tenant) == 1


async def advisory_locks(connection: Any) -> int:
    locks: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
        " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
    )
    return locks


async def test_while_the_first_is_running(client: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """As long as the first request is not answered, the same key is 409, which says when to come again."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE alert_counts IN EXCLUSIVE MODE")
        first = asyncio.create_task(post(client, tenant, "a"))
        while await advisory_locks(connection) == 0:
            assert not first.done()
        second = await post(client, tenant, "a")
        elsewhere = await client.get("/alerts", params={"tenant_id": str(tenant)})
    assert_error(second, 409, "Request in progress", "Idempotency-Key: the first request")
    assert second.headers["retry-after"] == "1"
    assert elsewhere.json() == []
    assert_replayed(await first, await post(client, tenant, "a"))


async def test_many_at_once(client: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """Of many requests with one key that come at once exactly one is done; the others are 409 or have its answer."""
    answers = await asyncio.gather(*(post(client, tenant, "a") for _ in range(50)))
    (first,) = (a for a in answers if a.status_code == 201 and "idempotent-replayed" not in a.headers)
    for answer in answers:
        if answer.status_code == 409:
            assert_error(answer, 409, "Request in progress")
        elif answer is not first:
            assert_replayed(first, answer)
    assert await count(connection, tenant) == await count(connection, tenant, "alert_events") == 1


async def test_keys_leave_room(client: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """However many requests with keys wait for the database, one without finds a connection."""
    alert = await create_alert(client, tenant)
    async with connection.transaction():
        await connection.execute("LOCK TABLE alert_counts IN EXCLUSIVE MODE")
        keyed = [asyncio.create_task(post(client, tenant, str(number))) for number in range(30)]
        while await advisory_locks(connection) < 4:
            assert not all(request.done() for request in keyed)
        started = asyncio.get_running_loop().time()
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert
        assert asyncio.get_running_loop().time() - started < 0.2
    assert {answer.status_code for answer in await asyncio.gather(*keyed)} <= {201, 503}


@pytest.mark.parametrize(("age", "again"), [("23:59:30", False), ("24:00:01", True)])
async def test_a_key_expires(
    client: httpx.AsyncClient, tenant: UUID, connection: Any, age: str, *, again: bool
) -> None:
    """A key is kept for 24 hours; after them it may be used for anything, and the new answer is kept in its place."""
    first = await post(client, tenant, "a")
    older = "UPDATE idempotency_keys SET created_at = created_at - $2::text::interval WHERE tenant_id = $1"
    await connection.execute(older, tenant, age)
    second = await post(client, tenant, "a", "Something else" if again else "Call back")
    assert (first.content != second.content) == again
    third = await post(client, tenant, "a", "Something else" if again else "Call back")
    assert third.content == second.content
    assert third.headers["idempotent-replayed"] == "true"
    assert await count(connection, tenant, "idempotency_keys") == 1
    assert await count(connection, tenant) == 1 + again


async def test_another_process(settings: Settings, tmp_path: Path, tenant: UUID) -> None:
    """What one process has answered another answers alike, also when the first was killed."""
    database, headers = str(settings.database_url), {"Idempotency-Key": "a"}
    with serving(tmp_path, DATABASE_URL=database) as one:
        with one.client(**headers) as client:
            first = client.post("/alerts", json=body_of(tenant))
        one.process.kill()
        one.process.wait()
    with serving(tmp_path, DATABASE_URL=database) as two, two.client(**headers) as client:
        assert_replayed(first, client.post("/alerts", json=body_of(tenant)))


async def test_a_page_of_another_origin(app: AlertsApp, settings: Settings, tenant: UUID) -> None:
    """A page that may call at all may give a key, and see that an answer is an old one."""
    origin = "https://desk.example"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "idempotency-key",
    }
    async with client_for(create_app(replace(settings, cors_origins=origin), app.state.database)) as client:
        preflight = await client.options("/alerts", headers=asked)
        answer = await client.post("/alerts", json=body_of(tenant), headers={"Origin": origin, "Idempotency-Key": "a"})
    assert "idempotency-key" in preflight.headers["access-control-allow-headers"].lower()
    assert "Idempotent-Replayed" in answer.headers["access-control-expose-headers"]


async def bulk(client: httpx.AsyncClient, path: str, key: str, **body: object) -> httpx.Response:
    return await client.post(path, json=body, headers={**INTERNAL, "Idempotency-Key": key})


async def stored(connection: Any, tenant: UUID) -> dict[str, int]:
    """The routes of a tenant's keys, and the size of each stored body."""
    rows = await connection.fetch(
        "SELECT route, octet_length(body) FROM idempotency_keys WHERE tenant_id = $1 ORDER BY 1", tenant
    )
    return dict(rows)


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
async def test_a_dry_run_stores_nothing(client: httpx.AsyncClient, tenant: UUID, connection: Any, verb: str) -> None:
    """The key of a dry run is checked and has no effect: the change itself may use it."""
    alert, key = await create_alert(client, tenant), uuid4().hex
    for prefix in ("", "/internal"):
        path = f"{prefix}/alerts/bulk/{verb}"
        for target in ({"ids": [alert["id"]]}, {"filter": {"tenant_id": str(tenant)}}):
            answer = await bulk(client, path, key, **target, dry_run=True)
            assert [result["alert"] for result in answer.json()["results"]] == [alert]
            assert_error(await bulk(client, path, "a b", **target, dry_run=True), 422, "Validation error")
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys WHERE key = $1", key) == 0
    assert (await bulk(client, path, key, ids=[alert["id"]])).json()["results"][0]["status"] == 200


async def test_a_large_bulk_response_is_replayed_with_ids(
    client: httpx.AsyncClient, tenant: UUID, connection: Any
) -> None:
    """Of a response over 256 kB the statuses, ids, errors and `more` are stored, and replayed from then on."""
    alerts = [body_of(tenant, "m" * 10_000) for _ in range(30)]
    first = await bulk(client, "/alerts/bulk", "a", alerts=[*alerts, {}])
    ids = [result["alert"]["id"] for result in first.json()["results"][:30]]
    changed = await bulk(client, "/alerts/bulk/resolve", "a", filter={"tenant_id": str(tenant)})
    assert [result["alert"]["id"] for result in changed.json()["results"]] == ids
    for _ in range(2):
        again = await bulk(client, "/alerts/bulk", "a", alerts=[*alerts, {}])
        assert again.headers["idempotent-replayed"] == "true"
        outcomes = [{"status": 201, "id": id_} for id_ in ids]
        assert again.json() == {"results": [*outcomes, first.json()["results"][30]]}
        again = await bulk(client, "/alerts/bulk/resolve", "a", filter={"tenant_id": str(tenant)})
        assert again.json() == {"results": [{"status": 200, "id": id_} for id_ in ids], "more": False}
    assert max((await stored(connection, tenant)).values()) < 4096


async def test_a_bulk_response_of_256_kb_is_replayed_whole(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A response of 262,144 bytes at most is stored as it is; times may be some digits shorter."""
    alerts = [body_of(tenant, "m" * 10_000) for _ in range(25)]
    size = len((await bulk(client, "/alerts/bulk", "a", alerts=[*alerts, body_of(tenant, "")])).content)
    for key, aim in (("b", 262_144 - 400), ("c", 262_144 + 400)):
        longer = [*alerts, body_of(tenant, "m" * (aim - size - 200))]
        first = await bulk(client, "/alerts/bulk", key, alerts=longer)
        again = await bulk(client, "/alerts/bulk", key, alerts=longer)
        assert 1 < abs(len(first.content) - 262_144) < 1000
        assert (first.content == again.content) == (len(first.content) <= 262_144) == (key == "b")


async def test_long_error_details_are_not_stored(client: httpx.AsyncClient, tenant: UUID, connection: Any) -> None:
    """Where the errors alone are over 256 kB, the statuses and kinds of error are stored."""
    alerts = [body_of(tenant), *([{"💥" * 100: 1}] * 999)]
    first = await bulk(client, "/alerts/bulk", "a", alerts=alerts)
    again = await bulk(client, "/alerts/bulk", "a", alerts=alerts)
    assert len(first.content) > 300_000
    assert again.json()["results"] == [
        {"status": 201, "id": first.json()["results"][0]["alert"]["id"]},
        *([{"status": 422, "error": {"error": "Validation error", "detail": None}}] * 999),
    ]
    assert max((await stored(connection, tenant)).values()) < 100_000


async def test_an_alert_that_is_older_than_the_limits_is_replayed_whole(
    client: httpx.AsyncClient, tenant: UUID, connection: Any
) -> None:
    alert = await create_alert(client, tenant)
    await connection.execute("UPDATE alerts SET message = repeat('m', 300000) WHERE tenant_id = $1", tenant)
    path, headers = f"/alerts/{alert['id']}/resolve", {"Idempotency-Key": "a"}
    first = await client.put(path, headers=headers)
    assert (first.status_code, len(first.json()["message"])) == (200, 300_000)
    assert_replayed(first, await client.put(path, headers=headers))


@pytest.mark.parametrize("prefix", ["", "/internal"])
async def test_a_key_of_a_bulk_create_belongs_to_the_tenant_of_its_first_alert(
    client: httpx.AsyncClient, connection: Any, prefix: str
) -> None:
    """Without tokens two tenants may use the same key, and an item that cannot be read names no tenant."""
    path, key = f"{prefix}/alerts/bulk", uuid4().hex
    for tenant in (uuid4(), uuid4()):
        alerts = [{}, "x", {**body_of(uuid4()), "severity": "odd"}, body_of(tenant), body_of(uuid4())]
        first = await bulk(client, path, key, alerts=alerts)
        assert [result["status"] for result in first.json()["results"]] == [422, 422, 422, 201, 201]
        assert_replayed(first, await bulk(client, path, key, alerts=alerts))
        assert (await stored(connection, tenant)).keys() == {f"POST {path}"}


async def test_a_response_that_an_earlier_version_stored_is_replayed(
    client: httpx.AsyncClient, connection: Any, tenant: UUID
) -> None:
    """It was stored under no tenant where the request named none; another request with its key is not affected."""
    key = uuid4().hex
    first = await bulk(client, "/alerts/bulk", key, alerts=[body_of(tenant)])
    await connection.execute("UPDATE idempotency_keys SET tenant_id = $1 WHERE key = $2", UUID(int=0), key)
    assert_replayed(first, await bulk(client, "/alerts/bulk", key, alerts=[body_of(tenant)]))
    other = await bulk(client, "/alerts/bulk", key, alerts=[body_of(uuid4())])
    assert [result["status"] for result in other.json()["results"]] == [201]


@pytest.mark.parametrize("prefix", ["", "/internal"])
async def test_a_key_of_a_change_belongs_to_the_tenant_of_its_first_alert(
    client: httpx.AsyncClient, connection: Any, prefix: str
) -> None:
    """Without tokens, a change that names no tenant has the tenant of its alert, or of the first that exists."""
    path, key = f"{prefix}/alerts/bulk/resolve", uuid4().hex
    for tenant in (uuid4(), uuid4()):
        ids = [
            "x",
            str(uuid4()),
            (await create_alert(client, tenant))["id"],
            (await create_alert(client, uuid4()))["id"],
        ]
        first = await bulk(client, path, key, ids=ids)
        assert [result["status"] for result in first.json()["results"]] == [422, 404, 200, 200]
        assert_replayed(first, await bulk(client, path, key, ids=ids))
        await client.put(f"/alerts/{ids[2]}/resolve", headers={"Idempotency-Key": key})
        routes = await stored(connection, tenant)
        assert routes.keys() == {f"POST {path}", f"PUT /alerts/{ids[2]}/resolve"}


async def test_changes_that_wait_for_one_tenant_hold_up_no_other(
    client: httpx.AsyncClient, tenant: UUID, connection: Any
) -> None:
    """However many keyed changes of one tenant wait, another tenant's is made after one of them, named or not."""
    held, other = await create_alert(client, tenant), await create_alert(client, uuid4())

    async def resolve(alert: dict[str, Any]) -> httpx.Response:
        return await client.put(f"/alerts/{alert['id']}/resolve", headers={"Idempotency-Key": uuid4().hex})

    async with connection.transaction():
        await connection.execute("SELECT FROM alerts WHERE tenant_id = $1 FOR UPDATE", tenant)
        waiting = [asyncio.create_task(resolve(held)) for _ in range(60)]
        while await advisory_locks(connection) < 4:
            assert not all(request.done() for request in waiting)
        started = asyncio.get_running_loop().time()
        assert (await resolve(other)).status_code == 200
        assert asyncio.get_running_loop().time() - started < 1
        await asyncio.gather(*waiting)
