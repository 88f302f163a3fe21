"""Many alerts in one request: each is answered as if it had come alone."""

import asyncio
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.db import database
from alerts_service.db.migrations import migrate
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, assert_error, client_for, create_alert, transition
from tests.support.asgi import Input, answer
from tests.support.database import open_database
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LARGE_TEXT = "\N{GRINNING FACE}" * 10_000

GOOD = {"tenant_id": str(UUID(int=0)), "rule_name": "r", "message": "m"}


def body(tenant: UUID, message: str = "m", **fields: object) -> dict[str, Any]:
    return {"tenant_id": str(tenant), "rule_name": "r", "message": message, **fields}


async def record(client: httpx.AsyncClient, *bodies: object, **headers: str) -> list[dict[str, Any]]:
    response = await client.post("/alerts/bulk", json={"alerts": bodies}, headers=headers)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


async def change(client: httpx.AsyncClient, verb: str, query: str = "", **said: object) -> dict[str, Any]:
    response = await client.post(f"/alerts/bulk/{verb}{query}", json=said)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def statuses(results: list[dict[str, Any]]) -> list[int]:
    return [result["status"] for result in results]


async def test_each_is_recorded(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A thousand alerts are recorded in one call, answered in their order, each as if it had come alone."""
    results = await record(client, *(body(tenant, str(n), severity="high") for n in range(1000)))
    assert statuses(results) == [201] * 1000
    assert [result["alert"]["message"] for result in results] == [str(n) for n in range(1000)]
    for place in (0, 249, 250, 999):
        alert = results[place]["alert"]
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert
    stats = (await client.get(f"/stats/{tenant}")).json()
    assert stats["total"] == stats["triggered"] == 1000


async def test_each_is_an_event(client: httpx.AsyncClient, tenant: UUID) -> None:
    """What is done in bulk is in the history of each alert, with who did it in which request."""
    results = await record(client, body(tenant), body(tenant), **{"x-request-id": "import-1"})
    ids = [result["alert"]["id"] for result in results]
    await change(client, "acknowledge", ids=ids, note="on it")
    for id_ in ids:
        events = (await client.get(f"/alerts/{id_}/history")).json()
        assert [(event["type"], event["note"]) for event in events] == [("created", None), ("acknowledged", "on it")]
        assert (events[0]["request_id"], events[0]["actor"]) == ("import-1", "anonymous")


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "tenant_id": "x"},
        {**GOOD, "severity": "huge"},
        {**GOOD, "rule_name": ""},
        {**GOOD, "message": "x" * 10_001},
        {**GOOD, "message": "\0"},
        {**GOOD, "status": "resolved"},
        {"tenant_id": GOOD["tenant_id"]},
        5,
        None,
        [],
        "x",
    ],
)
async def test_a_bad_one_spoils_no_other(client: httpx.AsyncClient, tenant: UUID, bad: object) -> None:
    """A bad item is answered as if it had come alone, and those before and behind it are recorded."""
    first, refused, last = await record(client, body(tenant, "first"), bad, body(tenant, "last"))
    assert (first["alert"]["message"], last["alert"]["message"]) == ("first", "last")
    alone = await client.post("/alerts", content=json.dumps(bad))
    assert refused == {"status": 422, "error": alone.json()}
    assert len((await client.get(f"/alerts?tenant_id={tenant}")).json()) == 2


ROUTES = [f"{prefix}/alerts/bulk{verb}" for prefix in ("", "/internal") for verb in ("", "/acknowledge", "/resolve")]
TRANSITIONS = [route for route in ROUTES if not route.endswith("bulk")]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("count", [0, 1001])
async def test_so_many_at_once(client: httpx.AsyncClient, route: str, count: int) -> None:
    """A call takes 1 to 1,000 items."""
    name = "alerts" if route.endswith("bulk") else "ids"
    response = await client.post(route, json={name: [GOOD] * count}, headers={"x-service-key": SERVICE_KEY})
    assert_error(response, 422, "Validation error", f"{name}: must ")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "body: must not be empty"),
        (b"{}", ""),
        (b"[]", "body: "),
        (b"{", "body: "),
        (b'{"x":1}', ""),
        (b'{"alerts":' + b"[" * 100_000, ""),
        (b'{"ids":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
        (b'{"alerts":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ],
)
async def test_no_list_at_all(client: httpx.AsyncClient, route: str, content: bytes, detail: str) -> None:
    """A body without a list of items is refused as a whole."""
    assert_error(
        await client.post(route, content=content, headers={"x-service-key": SERVICE_KEY}),
        422,
        "Validation error",
        detail,
    )


@pytest.mark.parametrize("route", ROUTES)
async def test_limits_of_a_body(client: httpx.AsyncClient, route: str) -> None:
    """A body of more than 1 MiB is 413, a form or what is compressed 415, also of a stream."""
    key = {"x-service-key": SERVICE_KEY}
    assert_error(await client.post(route, content=b" " * 2**20 + b"{}", headers=key), 413, "Body too large")
    assert_error(await client.post(route, data={"a": "b"}, headers=key), 415, "Unsupported media type")
    packed = {"content-encoding": "gzip", "content-type": "application/x-ndjson"}
    assert_error(await client.post(route, content=b"x", headers=key | packed), 415, "Unsupported media type")


@pytest.mark.parametrize("route", ["/alerts", *TRANSITIONS])
async def test_only_recording_takes_a_stream(client: httpx.AsyncClient, route: str) -> None:
    """Lines of JSON are 415 wherever they mean nothing."""
    headers = {"content-type": "application/x-ndjson", "x-service-key": SERVICE_KEY}
    assert_error(await client.post(route, content=b"{}", headers=headers), 415, "Unsupported media type")


@pytest.mark.parametrize("route", ROUTES)
async def test_internal_routes_want_the_key(client: httpx.AsyncClient, route: str) -> None:
    """Without the service key no internal route does anything, also of a stream."""
    route = f"/internal{route.removeprefix('/internal')}"
    for type_ in ("application/json", "application/x-ndjson"):
        response = await client.post(route, content=b"{}", headers={"content-type": type_})
        assert_error(response, 401, "Unauthorized")


async def test_with_the_key(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A service records, acknowledges and resolves as anybody, and the history says so."""
    headers = {"x-service-key": SERVICE_KEY}
    response = await client.post("/internal/alerts/bulk", json={"alerts": [body(tenant)]}, headers=headers)
    ids = [response.json()["results"][0]["alert"]["id"]]
    for verb in ("acknowledge", "resolve"):
        response = await client.post(f"/internal/alerts/bulk/{verb}", json={"ids": ids}, headers=headers)
        assert statuses(response.json()["results"]) == [200]
    events = (await client.get(f"/alerts/{ids[0]}/history")).json()
    assert [(event["type"], event["actor"]) for event in events] == [
        ("created", "service"),
        ("acknowledged", "service"),
        ("resolved", "service"),
    ]


async def test_each_is_moved_as_alone(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Of the ids of a call each is answered as the route by id would: 200, 404, 409 or 422, in their order."""
    fresh, same, other, done = [await create_alert(client, tenant) for _ in range(4)]
    await transition(client, same, "acknowledge", "on it")
    await transition(client, other, "acknowledge", "mine")
    await transition(client, done, "resolve")
    ids = [done["id"], fresh["id"], "x", 5, same["id"], str(uuid4()), other["id"], fresh["id"]]
    results = (await change(client, "acknowledge", ids=ids, note="on it"))["results"]
    assert statuses(results) == [409, 200, 422, 422, 200, 404, 409, 200]
    assert results[1]["alert"] == results[7]["alert"] == (await client.get(f"/alerts/{fresh['id']}")).json()
    assert results[1]["alert"]["acknowledgment_note"] == "on it"
    assert results[2]["error"] == {"error": "Validation error", "detail": "id: must be a UUID"}
    for place, alert in ((0, done), (5, {"id": ids[5]}), (6, other)):
        assert results[place]["error"] == (await transition(client, alert, "acknowledge", "on it")).json()


def assert_whole_up_to_4_mib(answer: dict[str, Any], count: int) -> None:
    """Whole alerts come first, as many as have 4 MiB and a few more, then ids."""
    results = answer["results"]
    whole = [result for result in results if "alert" in result]
    assert len(results) == count
    assert results[: len(whole)] == whole
    assert 4 * MIB < len(json.dumps(whole, ensure_ascii=False).encode()) < 6 * MIB
    assert {frozenset(result) for result in results[len(whole) :]} == {frozenset({"status", "id"})}


async def test_an_id_that_comes_several_times_is_changed_once(
    client: httpx.AsyncClient, app: AlertsApp, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await create_alert(client, tenant) for _ in range(2)]
    ids = [first["id"], second["id"], first["id"].upper(), first["id"]]
    counts = []

    async def many(statement: Any, calls: Any, *rest: Any, **named: Any) -> Any:
        counts.append((statement.name, len(calls)))
        return await original(statement, calls, *rest, **named)

    original = app.state.database.many
    monkeypatch.setattr(app.state.database, "many", many)
    results = (await change(client, "resolve", ids=ids, note="x"))["results"]
    assert counts == [("alerts/resolve", 2), ("alerts/get", 0)]
    assert [result["alert"]["id"] for result in results] == [first["id"], second["id"], first["id"], first["id"]]
    assert results[0] == results[2] == results[3]
    events = (await client.get(f"/alerts/{first['id']}/history")).json()
    assert [event["type"] for event in events] == ["created", "resolved"]


@pytest.mark.parametrize("route", TRANSITIONS)
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
async def test_results_of_ids_hold_whole_alerts_up_to_4_mib(
    client: httpx.AsyncClient, tenant: UUID, route: str, *, dry_run: bool, keyed: bool
) -> None:
    alert = await create_alert(client, tenant, message=LARGE_TEXT)
    await transition(client, alert, "acknowledge", LARGE_TEXT)
    said = {"ids": [alert["id"]] * 999 + ["x"], "dry_run": dry_run, "note": LARGE_TEXT}
    headers = {"x-service-key": SERVICE_KEY, **({"Idempotency-Key": str(tenant)} if keyed else {})}
    answer = (await client.post(route, json=said, headers=headers)).json()
    assert answer["results"].pop()["status"] == 422
    assert_whole_up_to_4_mib(answer, 999)
    assert answer["results"][-1] == {"status": 200, "id": alert["id"]}


async def test_results_of_a_filter_hold_whole_alerts_up_to_4_mib(client: httpx.AsyncClient, tenant: UUID) -> None:
    made = await record(client, *(body(tenant, "m") for _ in range(100)))
    ids = [result["alert"]["id"] for result in made]
    await change(client, "acknowledge", ids=ids[:60], note=LARGE_TEXT)
    created = [(await create_alert(client, tenant, message=LARGE_TEXT))["id"] for _ in range(60)]
    for dry_run in (True, False):
        asked = {"tenant_id": str(tenant)}
        answer = await change(client, "resolve", filter=asked, dry_run=dry_run, note=LARGE_TEXT)
        results = answer["results"]
        assert len(results) == 160
        assert [result["alert"]["id"] if "alert" in result else result["id"] for result in results] == ids + created
        assert len(json.dumps(answer, ensure_ascii=False).encode()) < 6 * MIB
        assert results[-1] == {"status": 200, "id": created[-1]}
    assert (await client.get(f"/stats/{tenant}")).json()["resolved"] == 160


@pytest.mark.parametrize("route", ["/alerts/bulk", "/internal/alerts/bulk"])
async def test_results_of_repeats_hold_whole_alerts_up_to_4_mib(
    client: httpx.AsyncClient, tenant: UUID, route: str
) -> None:
    alert = await create_alert(client, tenant, message=LARGE_TEXT, dedup_key="k")
    await transition(client, alert, "acknowledge", LARGE_TEXT)
    alerts = [body(tenant, dedup_key="k")] * 999 + [body(tenant)]
    response = await client.post(route, json={"alerts": alerts}, headers={"x-service-key": SERVICE_KEY})
    assert_whole_up_to_4_mib(response.json(), 1000)
    assert statuses(response.json()["results"]) == [200] * 999 + [201]
    assert (await client.get(f"/alerts/{alert['id']}")).json()["occurrences"] == 1000


@pytest.mark.parametrize(
    ("wrong", "right", "count"),
    [
        ({"severity": "odd"}, {"severity": "low"}, 1000),
        ({"rule_name": ""}, {}, 1000),
        ({"unknown": 1}, {}, 1000),
        ({"message": "m" * 10_001}, {"message": "m" * 10_000}, 100),
    ],
)
async def test_an_invalid_item_costs_about_as_much_as_a_valid_one(
    client: httpx.AsyncClient, tenant: UUID, wrong: dict[str, Any], right: dict[str, Any], count: int
) -> None:
    async def cost(fields: dict[str, Any]) -> float:
        content = json.dumps({"alerts": [{**body(tenant), **fields}] * count})
        started = time.process_time()
        assert (await client.post("/alerts/bulk", content=content)).status_code == 200
        return time.process_time() - started

    ratios = [await cost(wrong) / await cost(right) for _ in range(5)]
    assert statistics.median(ratios) < 1.5


async def test_an_invalid_line_costs_about_as_much_as_a_valid_one(app: AlertsApp, tenant: UUID) -> None:
    headers = [(b"content-type", b"application/x-ndjson")]

    async def cost(line: object) -> float:
        lines = json.dumps(line).encode() + b"\n"
        request = Input("POST", b"/alerts/bulk", b"", headers, lines * 2000)
        started = time.process_time()
        _, _, results = await answer(app, request)
        assert results.count(b"\n") == 2000
        return time.process_time() - started

    ratios = [await cost(body(tenant, severity="odd")) / await cost(body(tenant)) for _ in range(5)]
    assert statistics.median(ratios) < 1.5


async def test_of_one_tenant(client: httpx.AsyncClient, tenant: UUID) -> None:
    """With `?tenant_id=` any other tenant's alert is answered exactly as an unknown one, and stays as it is."""
    own, foreign = await create_alert(client, tenant), await create_alert(client, uuid4())
    for verb in ("acknowledge", "resolve"):
        answer = await change(client, verb, f"?tenant_id={tenant}", ids=[own["id"], foreign["id"], str(uuid4())])
        mine, theirs, unknown = answer["results"]
        assert mine["status"] == 200
        assert theirs == unknown == {"status": 404, "error": {"error": "Alert not found", "detail": None}}
    assert (await client.get(f"/alerts/{foreign['id']}")).json() == foreign


async def test_by_a_filter(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A filter finds the tenant's alerts that can be moved, by all that it names, oldest first."""
    kinds = [("r", "low"), ("r", "high"), ("s", "high"), ("r", "high"), ("r", "high")]
    made = [await create_alert(client, tenant, rule_name=rule, severity=severity) for rule, severity in kinds]
    await create_alert(client, uuid4(), rule_name="r", severity="high")
    await transition(client, made[4], "resolve")
    asked = {"tenant_id": str(tenant), "rule_name": "r", "severity": "high"}
    answer = await change(client, "acknowledge", filter=asked, note="all")
    assert [result["alert"]["id"] for result in answer["results"]] == [made[1]["id"], made[3]["id"]]
    assert answer["more"] is False
    assert {result["alert"]["acknowledgment_note"] for result in answer["results"]} == {"all"}
    assert (await change(client, "acknowledge", filter=asked))["results"] == []
    asked = {"tenant_id": str(tenant), "status": "acknowledged", "created_after": made[3]["created_at"]}
    answer = await change(client, "resolve", filter=asked)
    assert [result["alert"]["id"] for result in answer["results"]] == [made[3]["id"]]
    asked = {"tenant_id": str(tenant), "created_before": made[2]["created_at"]}
    answer = await change(client, "resolve", filter=asked)
    assert [result["alert"]["id"] for result in answer["results"]] == [made[0]["id"], made[1]["id"]]
    left = [alert["id"] for alert in (await client.get(f"/alerts?tenant_id={tenant}&status=triggered")).json()]
    assert left == [made[2]["id"]]


async def test_a_dry_run(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A dry run answers with the alerts that would be moved as they stand, and moves none."""
    made = [await create_alert(client, tenant) for _ in range(3)]
    for said in ({"filter": {"tenant_id": str(tenant)}}, {"ids": [alert["id"] for alert in made]}):
        answer = await change(client, "resolve", **said, dry_run=True, note="x")
        assert [result["alert"] for result in answer["results"]] == made
        assert (await client.get(f"/stats/{tenant}")).json()["triggered"] == 3


async def test_a_dry_run_of_what_would_not_move(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A dry run answers for each id what the call itself would, also where that is a refusal."""
    ids = [(await create_alert(client, tenant))["id"] for _ in range(3)]
    await change(client, "acknowledge", ids=ids[:2], note="a")
    await change(client, "resolve", ids=ids[:1])
    for route, note in (("acknowledge", "a"), ("acknowledge", "b"), ("resolve", None), ("resolve", "b")):
        said: dict[str, Any] = {"ids": [*ids[:2], str(uuid4()), "x"], "note": note}
        tried = await change(client, route, **said, dry_run=True)
        expected = {
            ("acknowledge", "a"): [409, 200, 404, 422],
            ("acknowledge", "b"): [409, 409, 404, 422],
            ("resolve", None): [200, 200, 404, 422],
            ("resolve", "b"): [409, 200, 404, 422],
        }[route, note]
        assert statuses(tried["results"]) == expected
        if route == "acknowledge":
            assert statuses((await change(client, route, **said))["results"]) == expected


async def test_a_condition_for_many(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A tag is one alert's: a bulk call with `If-Match` is refused, and moves nothing."""
    alert = await create_alert(client, tenant)
    answer = await client.post("/alerts/bulk/resolve", json={"ids": [alert["id"]]}, headers={"If-Match": '"x"'})
    assert_error(answer, 422, "Validation error", "If-Match: not supported on bulk requests")
    assert (await client.get(f"/stats/{tenant}")).json()["triggered"] == 1


async def test_a_held_alert_holds_up_no_other(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """Of a call whose first 250 items wait for a row in vain, those behind them are recorded."""
    await record(client, body(tenant, dedup_key="held"))
    connection = await asyncpg.connect(settings.database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM alerts WHERE tenant_id = $1 FOR UPDATE", tenant)
        repeats = [body(tenant, dedup_key="held")] * 250
        results = await record(client, *repeats, *[body(tenant, dedup_key=str(n)) for n in range(20)])
    await connection.close()
    assert statuses(results) == [503] * 250 + [201] * 20


async def test_a_tenant_whose_alert_is_held_holds_up_no_other(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    """However many calls wait for one tenant's row, another tenant's call is done after one of them."""
    await record(client, body(tenant, dedup_key="held"))
    connection = await asyncpg.connect(settings.database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM alerts WHERE tenant_id = $1 FOR UPDATE", tenant)
        waiting = [asyncio.create_task(record(client, body(tenant, dedup_key="held"))) for _ in range(30)]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        assert statuses(await record(client, body(uuid4()))) == [201]
        assert time.monotonic() - started < 1
        await asyncio.gather(*waiting)
    await connection.close()


async def test_more_than_a_call_moves(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A filter moves the oldest thousand and says that there are more; the next call goes on with them."""
    await record(client, *(body(tenant, "old") for _ in range(1000)))
    newer = await create_alert(client, tenant, message="new")
    answer = await change(client, "resolve", filter={"tenant_id": str(tenant)})
    assert statuses(answer["results"]) == [200] * 1000
    assert answer["more"] is True
    assert {result["alert"]["message"] for result in answer["results"]} == {"old"}
    answer = await change(client, "resolve", filter={"tenant_id": str(tenant)})
    assert [result["alert"]["id"] for result in answer["results"]] == [newer["id"]]
    assert answer["more"] is False


@pytest.mark.parametrize("route", TRANSITIONS)
@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ({"note": "x"}, "body: must have exactly one of ids and filter"),
        ({"ids": [str(UUID(int=0))], "filter": {"tenant_id": str(UUID(int=0))}}, "body: must have exactly one of"),
        ({"filter": {}}, "filter.tenant_id: required"),
        ({"filter": {"tenant_id": str(UUID(int=0)), "created_after": "2026-01-01T00:00:00"}}, "filter.created_after: "),
        ({"filter": {"tenant_id": str(UUID(int=0)), "status": "open"}}, "filter.status: "),
        ({"filter": {"tenant_id": str(UUID(int=0)), "rule_name": "\0"}}, "filter.rule_name: "),
        ({"ids": ["x"], "note": "\0"}, "note: must not contain the NUL character"),
        ({"ids": ["x"], "dry_run": "yes"}, "dry_run: "),
    ],
)
async def test_a_bad_move(client: httpx.AsyncClient, route: str, said: object, detail: str) -> None:
    """What is wrong with a move as a whole refuses it as a whole."""
    assert_error(
        await client.post(route, json=said, headers={"x-service-key": SERVICE_KEY}), 422, "Validation error", detail
    )


async def test_with_a_token(app: AlertsApp, settings: Settings, tenant: UUID) -> None:
    """With a tenant's token an alert for another tenant is 403, and the others are recorded."""
    async with client_for(create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)) as guarded:
        results = await record(
            guarded, body(tenant), body(uuid4()), body(tenant), **bearer_header(sign_token("HS256", tenant))
        )
    assert statuses(results) == [201, 403, 201]
    assert results[1]["error"] == {"error": "Forbidden", "detail": "tenant_id: must be the token's own tenant"}


async def test_a_call_counts_once(app: AlertsApp, settings: Settings, tenant: UUID) -> None:
    """A call counts once for each tenant that it names; one that has called too often is 429, each of its items."""
    limited = create_app(replace(settings, rate_limit_tenant="2/hour"), app.state.database)
    async with client_for(limited) as client:
        bodies = [body(tenant), body(tenant), body(tenant)]
        for _ in range(2):
            assert statuses(await record(client, *bodies)) == [201] * 3
        results = await record(client, *bodies, body(uuid4()))
        assert statuses(results) == [429, 429, 429, 201]
        assert 0 < results[0]["retry_after"] <= 3600
        response = await client.post(f"/alerts/bulk/resolve?tenant_id={tenant}", json={"ids": [str(uuid4())]})
        assert_error(response, 429, "Too many requests")


@pytest.fixture
async def faulty(empty_database: str, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose database does what a message tells it to."""
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    await connection.execute(
        """
        CREATE FUNCTION obey() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            CASE NEW.message
                WHEN 'refuse' THEN RAISE 'no' USING ERRCODE = 'check_violation';
                WHEN 'lock' THEN RAISE 'no' USING ERRCODE = 'lock_not_available';
                WHEN 'sleep' THEN PERFORM pg_sleep(3);
                WHEN 'die' THEN PERFORM pg_terminate_backend(pg_backend_pid());
                ELSE NULL;
            END CASE;
            RETURN NEW;
        END $$;
        CREATE TRIGGER obey BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION obey()
        """
    )
    async with (
        open_database(empty_database, pool_size=3, pool_timeout=1, statement_timeout=0.5) as opened,
        client_for(create_app(settings, opened)) as client,
    ):
        yield client
    await connection.close()


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ("refuse", {"status": 500, "error": {"error": "Internal server error", "detail": None}}),
        (
            "lock",
            {
                "status": 503,
                "error": {
                    "error": "Service unavailable",
                    "detail": "could not lock the alert in time",
                },
                "retry_after": 1,
            },
        ),
    ],
)
async def test_what_the_database_refuses_spoils_no_other(
    faulty: httpx.AsyncClient, tenant: UUID, message: str, refusal: dict[str, Any]
) -> None:
    """When the database refuses one item those that left with it are recorded all the same."""
    results = await record(faulty, *(body(tenant, message if n == 100 else "m") for n in range(300)))
    assert results.pop(100) == refusal
    assert statuses(results) == [201] * 299
    assert (await faulty.get(f"/stats/{tenant}")).json()["total"] == 299


@pytest.mark.parametrize(
    ("message", "status", "detail"),
    [("sleep", 503, "the statement timed out; the change may still have been made"), ("die", 500, None)],
)
async def test_when_the_database_fails_half_way(
    faulty: httpx.AsyncClient, tenant: UUID, message: str, status: int, detail: str | None
) -> None:
    """Each item tells its own truth: done, perhaps done, and not done, the last alone with a time to come back."""
    results = await record(faulty, *(body(tenant, message if n == 300 else "m") for n in range(1000)))
    assert statuses(results) == [201] * 250 + [status] * 250 + [503] * 500
    assert [result["error"]["detail"] for result in results[250:500]] == [detail] * 250
    assert [place for place, result in enumerate(results) if "retry_after" in result] == list(range(500, 1000))
    kept = await faulty.get(f"/alerts?tenant_id={tenant}")
    assert {alert["id"] for alert in kept.json()} <= {result["alert"]["id"] for result in results[:250]}
    assert statuses(await record(faulty, body(tenant))) == [201]


async def test_what_is_locked_spoils_no_other(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """Of many alerts to be moved one that somebody holds on to is 503, and the others are moved."""
    ids = [(await create_alert(client, tenant))["id"] for _ in range(3)]
    connection = await asyncpg.connect(settings.database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM alerts WHERE id = $1 FOR UPDATE", UUID(ids[1]))
        results = (await change(client, "resolve", ids=ids))["results"]
    await connection.close()
    assert statuses(results) == [200, 503, 200]
    assert results[1]["retry_after"] == 1


async def test_racing_calls(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Of calls that move the same alerts at the same time, in any order, exactly one wins each."""
    ids = [result["alert"]["id"] for result in await record(client, *(body(tenant) for _ in range(500)))]
    answers = await asyncio.gather(
        *(change(client, "acknowledge", ids=ids[:: (-1) ** n], note=str(n)) for n in range(6))
    )
    won = [result["alert"]["id"] for answer in answers for result in answer["results"] if result["status"] == 200]
    assert sorted(won) == sorted(ids)
    lost = [result["status"] for answer in answers for result in answer["results"] if result["status"] != 200]
    assert set(lost) == {409}
    assert (await client.get(f"/stats/{tenant}")).json()["acknowledged"] == 500


async def test_those_who_ask_for_little_do_not_wait_for_those_who_ask_for_much(
    client: httpx.AsyncClient, app: AlertsApp, tenant: UUID
) -> None:
    """However many bulk calls come at a time, they hold no more than two connections."""
    connections = app.state.database.connections
    calls = [asyncio.create_task(record(client, *(body(tenant) for _ in range(1000)))) for _ in range(12)]
    least = connections.limit
    while not all(call.done() for call in calls):
        await asyncio.sleep(0.001)
        least = min(least, connections.idle)
    assert [statuses(call.result()) for call in calls] == [[201] * 1000] * 12
    assert least >= connections.limit - database.MAX_BULK_STATEMENTS


async def test_a_kept_answer_does_not_only_have_to_wait(app: AlertsApp, settings: Settings, tenant: UUID) -> None:
    """With a key a call of which something would only have to wait is refused whole, and its key stays free."""
    limited = create_app(replace(settings, rate_limit_tenant="1/hour"), app.state.database)
    async with client_for(limited) as client:
        await client.get(f"/stats/{tenant}")
        alerts = {"alerts": [body(uuid4()), body(tenant)]}
        response = await client.post("/alerts/bulk", json=alerts, headers={"Idempotency-Key": str(tenant)})
        assert_error(response, 429, "Too many requests", "1/hour")
    async with client_for(app) as client:
        response = await client.post("/alerts/bulk", json=alerts, headers={"Idempotency-Key": str(tenant)})
        assert "idempotent-replayed" not in response.headers
        assert statuses(response.json()["results"]) == [201, 201]


async def test_calls_with_keys_that_overlap(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Calls with keys for the same alerts, in another order, wait for each other and never in a circle."""
    for number in range(3):
        results = await record(client, *(body(tenant, str(n)) for n in range(600)))
        ids = [result["alert"]["id"] for result in results]
        calls = [
            client.post(
                "/alerts/bulk/resolve", json={"ids": order}, headers={"Idempotency-Key": f"{tenant}-{number}-{n}"}
            )
            for n, order in enumerate((ids, ids[300:] + ids[:300]))
        ]
        for response in await asyncio.gather(*calls):
            assert response.status_code == 200, response.text
            assert statuses(response.json()["results"]) == [200] * 600


async def test_a_filter_that_is_no_longer_true(client: httpx.AsyncClient, settings: Settings, tenant: UUID) -> None:
    """An alert that changes after a filter has found it is left as it is, and the caller told to look again."""
    alert = await create_alert(client, tenant, severity="low")
    connection = await asyncpg.connect(settings.database_url)
    transaction = connection.transaction()
    await transaction.start()
    raised = "UPDATE alerts SET severity = 'critical', updated_at = now() WHERE id = $1"
    await connection.execute(raised, UUID(alert["id"]))
    call = asyncio.create_task(change(client, "resolve", filter={"tenant_id": str(tenant), "severity": "low"}))
    await asyncio.sleep(0.1)
    await transaction.commit()
    await connection.close()
    assert await call == {"results": [], "more": True}
    assert (await client.get(f"/alerts/{alert['id']}")).json()["status"] == "triggered"


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
async def test_other_requests_go_on_while_items_are_read(
    client: httpx.AsyncClient, tenant: UUID, content_type: str
) -> None:
    """A thousand items are read a few at a time: between them the event loop turns."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    items = [json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": "m", "severity": "odd"})] * 1000
    body = f'{{"alerts": [{",".join(items)}]}}' if content_type == "application/json" else "\n".join(items)
    turning = asyncio.create_task(turn())
    response = await client.post("/alerts/bulk", content=body, headers={"Content-Type": content_type})
    turning.cancel()
    assert response.text.count('"status":422') == 1000
    assert turns >= 15


async def test_invalid_items_leave_no_reference_cycles(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The garbage collector has nothing to do for the items of a list: a pass over those of a few lists took 300 ms."""
    items = [{"tenant_id": str(tenant), "rule_name": "r", "message": "m", "severity": "odd"}] * 1000
    gc.collect()
    gc.disable()
    try:
        response = await client.post("/alerts/bulk", json={"alerts": items})
        assert response.text.count('"status":422') == 1000
        assert gc.collect() < 1000
    finally:
        gc.enable()
