"""What holds for every route: errors of one shape, methods, request ids, failing databases."""

import asyncio
import gzip
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from alerts_service.alerts.statements import TRANSITIONS
from alerts_service.app import create_app
from alerts_service.bootstrap import ready_database
from alerts_service.db.database import Database
from alerts_service.db.pool import Connections, connect_options
from alerts_service.db.queries import Query, load_queries
from alerts_service.errors import DatabaseBusy, ValidationFailed
from alerts_service.settings import Settings
from alerts_service.stats.controller import GET
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, UNKNOWN_ALERT_ID, assert_error, client_for, create_alert, data_requests
from tests.support.asgi import Input, answer
from tests.support.database import POOLER, open_database, settings_for

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/nope", "/alerts/x/y/z", "/docs/nope", "/docs/a/b", "/internal", "/health/x"])
async def test_an_unknown_path(client: httpx.AsyncClient, path: str) -> None:
    """An unknown path is 404 in the one shape, below the docs too."""
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
async def test_a_method_that_the_path_does_not_take(client: httpx.AsyncClient, path: str, allow: str) -> None:
    """A wrong method is 405 in the one shape, and names all that the path takes."""
    response = await client.delete(path)
    assert_error(response, 405, "Method not allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(("path", "allow"), METHODS)
async def test_options(client: httpx.AsyncClient, path: str, allow: str) -> None:
    """OPTIONS names all that the path takes."""
    response = await client.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == allow


async def test_options_of_an_unknown_path(client: httpx.AsyncClient) -> None:
    """OPTIONS of an unknown path is 404 like any other method."""
    assert_error(await client.options("/nope"), 404, "Not found")


async def bodies(app: AlertsApp, method: str, path: str, query: str = "") -> bytes:
    """What the application itself sends as a body: the test's client drops that of a HEAD."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    await app(
        {**scope, "headers": [], "root_path": "", "server": None, "client": None, "scheme": "http"}, receive, send
    )
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/alerts?tenant_id={tenant}", "/stats/{tenant}", "/docs", "/openapi.json"]
)
async def test_head_is_get_without_a_body(app: AlertsApp, client: httpx.AsyncClient, tenant: UUID, path: str) -> None:
    """HEAD answers what GET would, but for the body."""
    target = path.format(tenant=tenant)
    assert await bodies(app, "HEAD", *target.split("?")) == b""
    head, get = [await client.request(method, target) for method in ("HEAD", "GET")]
    assert (head.status_code, head.content) == (200, b"")
    for header in ("content-type", "content-length"):
        assert head.headers[header] == get.headers[header]


async def test_the_openapi_document_is_put_together_once(client: httpx.AsyncClient) -> None:
    async def cost() -> float:
        started = time.process_time()
        assert (await client.get("/openapi.json")).status_code == 200
        return time.process_time() - started

    assert statistics.median([await cost() for _ in range(9)]) < 0.004


async def test_head_of_what_is_not_there(client: httpx.AsyncClient) -> None:
    """HEAD of an unknown alert is 404, without a body."""
    response = await client.head(f"/alerts/{uuid4()}")
    assert (response.status_code, response.content) == (404, b"")


async def test_a_request_id_is_made(client: httpx.AsyncClient) -> None:
    """Every answer carries a request id, a new one where the caller brought none."""
    ids = [(await client.get(path)).headers["x-request-id"] for path in ("/health", "/health", "/nope")]
    assert all(re.fullmatch(r"[0-9a-f]{32}", id_) for id_ in ids)
    assert len(set(ids)) == 3


async def test_the_callers_request_id_is_kept(client: httpx.AsyncClient) -> None:
    """The caller's own request id comes back."""
    response = await client.get("/health", headers={"X-Request-ID": "call-42/a.b"})
    assert response.headers["x-request-id"] == "call-42/a.b"


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"\xff", b"a\tb", b"%0d%0a"])
async def test_a_request_id_that_no_log_should_hold(client: httpx.AsyncClient, given: bytes) -> None:
    """A request id that is too long, or holds what does not belong in a log line, is replaced."""
    response = await client.get("/health", headers={b"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


async def test_a_bug_shows_nothing(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen error is a 500 that tells the caller nothing of what happened."""

    def broken(*_: object) -> None:
        raise RuntimeError("SELECT secret FROM traceback")

    monkeypatch.setattr("alerts_service.alerts.controller._create", broken)
    body = {"tenant_id": str(uuid4()), "rule_name": "r", "message": "m"}
    response = await client.post("/alerts", json=body)
    assert_error(response, 500, "Internal server error")
    assert response.json()["detail"] is None


async def test_a_value_that_only_the_database_refuses(settings: Settings) -> None:
    """What slips through the contract and the database cannot hold is the caller's mistake, not a 500."""
    async with open_database(str(settings.database_url), pool_size=1, pool_timeout=1, statement_timeout=1) as database:
        with pytest.raises(ValidationFailed):
            await database.one_or_none(
                TRANSITIONS["resolved"],
                id=UNKNOWN_ALERT_ID,
                tenant_id=None,
                note="nul \0 inside",
                if_match=None,
                actor="anonymous",
                request_id=None,
            )


async def close_database(server_url: str, database_url: str) -> None:
    """End every connection to a database, and let nobody connect to it any more."""
    name = urlsplit(database_url).path[1:]
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await admin.close()


async def test_a_lost_database(server_url: str, empty_database: str, tenant: UUID) -> None:
    """Without its database every data route is 500, "Database connection error", and health is 503; only live lives."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        await create_alert(client, tenant)
        await close_database(server_url, empty_database)
        for method, path, body in data_requests(tenant):
            assert_error(await client.request(method, path, json=body), 500, "Database connection error")
        for path in ("/health", "/health/details"):
            assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
        assert (await client.get("/health/live")).status_code == 200


async def test_a_host_that_is_none(client: httpx.AsyncClient) -> None:
    """A Host header that no host can have is refused in the one shape."""
    response = await client.get("/health", headers=[(b"host", b"no host\xff")])
    assert_error(response, 422, "Validation error", "Invalid host header")


async def test_no_free_connection(settings: Settings, tenant: UUID) -> None:
    """When no connection comes free in time, a data route is 503 and says when to come back; health has its own."""
    async with (
        open_database(str(settings.database_url), pool_size=1, pool_timeout=0.2, statement_timeout=5) as database,
        client_for(create_app(settings, database)) as client,
    ):
        await create_alert(client, tenant)
        async with database.connections.acquire():
            response = await client.get(f"/stats/{tenant}")
            assert_error(response, 503, "Service unavailable", "timed out waiting for a database connection")
            assert response.headers["retry-after"] == "1"
            assert (await client.get("/health")).status_code == 200
        assert (await client.get(f"/stats/{tenant}")).status_code == 200


async def test_a_statement_that_hangs(settings: Settings, tenant: UUID) -> None:
    """A statement that waits too long, here for a locked row, is cut off, answered with 503, and changes nothing."""
    async with (
        open_database(str(settings.database_url), pool_size=2, pool_timeout=1, statement_timeout=0.3) as database,
        client_for(create_app(settings, database)) as client,
    ):
        alert = await create_alert(client, tenant)
        locker = await asyncpg.connect(settings.database_url)
        async with locker.transaction():
            await locker.execute("SELECT FROM alerts WHERE id = $1 FOR UPDATE", UUID(alert["id"]))
            response = await client.put(f"/alerts/{alert['id']}/acknowledge")
            assert_error(response, 503, "Service unavailable")
        await locker.close()
        await asyncio.sleep(0.2)
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_a_create_that_hangs(settings: Settings, tenant: UUID) -> None:
    """A create that was not done in time is 503 without Retry-After: it may be recorded all the same."""
    async with (
        open_database(str(settings.database_url), pool_size=1, pool_timeout=1, statement_timeout=0.1) as database,
        client_for(create_app(settings, database)) as client,
    ):
        locker = await asyncpg.connect(settings.database_url)
        async with locker.transaction():
            await locker.execute("LOCK TABLE alerts IN EXCLUSIVE MODE")
            body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
            response = await client.post("/alerts", json=body)
            assert_error(response, 503, "Service unavailable", "may still have been made")
            assert "retry-after" not in response.headers
        await locker.close()


async def until_cut(client: httpx.AsyncClient, url: str, alert: dict[str, Any], act: str) -> httpx.Response:
    """Acknowledge an alert whose row is locked, act on the backend that waits for it, and return the answer."""
    locker = await asyncpg.connect(url)
    async with locker.transaction():
        await locker.execute("SELECT FROM alerts WHERE id = $1 FOR UPDATE", UUID(alert["id"]))
        request = asyncio.create_task(client.put(f"/alerts/{alert['id']}/acknowledge"))
        while not request.done():
            await locker.execute(f"SELECT {act} FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))")
            await asyncio.sleep(0.01)
    await locker.close()
    return request.result()


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        ("pg_cancel_backend(pid)", "the statement timed out"),
        ("pid", "could not lock the alert in time"),
    ],
)
async def test_a_statement_that_the_server_cuts_off(empty_database: str, tenant: UUID, act: str, detail: str) -> None:
    """A statement that an administrator cancels, or that waits too long for a lock, is 503 and changes nothing."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        alert = await create_alert(client, tenant)
        response = await until_cut(client, empty_database, alert, act)
        assert_error(response, 503, "Service unavailable", detail)
        assert response.headers["retry-after"] == "1"
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_a_connection_lost_in_the_midst_is_replaced(empty_database: str, tenant: UUID) -> None:
    """When the only connection is lost under a statement that request is 500, and the next ones get a new one."""
    app = create_app(settings_for(database_url=empty_database, pool_size=1))
    async with app.lifespan(), client_for(app) as client:
        alert = await create_alert(client, tenant)
        lost = await until_cut(client, empty_database, alert, "pg_terminate_backend(pid)")
        assert_error(lost, 500, "Database connection error")
        assert (await client.get(f"/alerts/{alert['id']}")).json() == alert
        assert (await client.put(f"/alerts/{alert['id']}/acknowledge")).status_code == 200


async def test_connections_lost_while_idle_are_replaced(empty_database: str, tenant: UUID) -> None:
    """When the server ends connections that have nothing to do, no request notices."""
    app = create_app(settings_for(database_url=empty_database, pool_size=2))
    async with app.lifespan(), client_for(app) as client:
        await asyncio.gather(*(create_alert(client, tenant) for _ in range(5)))
        admin = await asyncpg.connect(empty_database)
        await admin.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        answers = await asyncio.gather(*(client.get(f"/alerts?tenant_id={tenant}") for _ in range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert (await client.get("/health")).status_code == 200


async def test_a_held_connection_does_not_keep_the_end_from_coming(settings: Settings) -> None:
    """The database closes soon, also while somebody still holds a connection."""
    url = str(settings.database_url)
    async with open_database(url, pool_size=1, pool_timeout=0.2, statement_timeout=5) as database:
        holder = database.connections.acquire()
        await holder.__aenter__()
        started = time.monotonic()
    assert time.monotonic() - started < 2


async def test_the_end_waits_for_a_statement_and_no_longer(settings: Settings) -> None:
    """The end comes as soon as the last statement is done."""
    url = str(settings.database_url)
    async with open_database(url, pool_size=1, pool_timeout=5, statement_timeout=5) as database:

        async def sleep() -> None:
            async with database.connections.acquire() as connection:
                await connection.execute("SELECT pg_sleep(0.3)")

        asleep = asyncio.create_task(sleep())
        await asyncio.sleep(0.1)
        started = time.monotonic()
    assert asleep.done()
    assert 0.1 < time.monotonic() - started < 2


async def test_the_pools_settings_count(empty_database: str, tenant: UUID) -> None:
    """The pool is as large, waits for a connection as long, and lets a statement take as long as the settings say."""
    settings = settings_for(database_url=empty_database, pool_size=1, pool_timeout=0.2, statement_timeout=0.3)
    async with ready_database(settings) as database, database.connections.acquire() as connection:
        assert database.connections.limit == 1
        started = time.monotonic()
        with pytest.raises(DatabaseBusy, match="timed out waiting for a database connection"):
            await database.one(GET, tenant_id=tenant)
        assert 0.19 < time.monotonic() - started < 1.5
        started = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("SELECT pg_sleep(2)")
        assert 0.29 < time.monotonic() - started < 1.5


async def test_too_many_requests_wait(settings: Settings, tenant: UUID) -> None:
    """When more requests wait for the database than may, the rest are refused at once; all that were taken finish."""
    app = create_app(settings, None)
    url = str(settings.database_url)
    async with open_database(url, pool_size=1, pool_timeout=15, statement_timeout=5) as database:
        app.state.database = database
        async with client_for(app) as client, database.connections.acquire():
            flood = [asyncio.create_task(client.get(f"/stats/{tenant}")) for _ in range(4400)]
            done, waiting = await asyncio.wait(flood, timeout=3)
            refused = [task.result() for task in done]
        answers = await asyncio.gather(*waiting)
    assert refused
    assert_error(refused[0], 503, "Service unavailable", "too many requests are waiting")
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.status_code for answer in answers} == {200}
    assert len(answers) >= 4000


async def test_equal_questions_share_an_answer(settings: Settings, tenant: UUID) -> None:
    """Equal questions that wait together are asked once and all answered, and who asks after a change sees it."""
    async with open_database(str(settings.database_url), pool_size=1, pool_timeout=5, statement_timeout=5) as database:
        asked: list[object] = []
        fetch = database._fetch  # noqa: SLF001 - to count what reaches the database

        async def counted(connections: Connections, query: Query, values: list[object]) -> list[asyncpg.Record]:
            asked.append(values)
            return await fetch(connections, query, values)

        database._fetch = counted  # type: ignore[method-assign, assignment] # noqa: SLF001 - as above
        async with client_for(create_app(settings, database)) as client:
            await create_alert(client, tenant)
            asked.clear()
            answers = await asyncio.gather(*(client.get(f"/stats/{tenant}") for _ in range(20)))
            assert {answer.json()["total"] for answer in answers} == {1}
            assert asked == [[(tenant,)]] * 3
            for total in range(2, 12):
                await create_alert(client, tenant)
                assert (await client.get(f"/stats/{tenant}")).json()["total"] == total


@asynccontextmanager
async def one_connection(url: str | None, kind: type[asyncpg.Connection]) -> AsyncIterator[Database]:
    """A database with one connection, of this kind."""
    pool = await asyncpg.create_pool(
        url, min_size=1, max_size=1, connection_class=kind, **connect_options(pooler=POOLER)
    )
    connections = Connections(pool, 2)
    try:
        yield Database(load_queries(), connections, 2)
    finally:
        await connections.close()


class CutOnRelease(asyncpg.Connection):
    """A connection that is lost on its way back to the pool, after its statement was committed."""

    cut = 0

    async def reset(self, *, timeout: float | None = None) -> None:
        del timeout
        CutOnRelease.cut += 1
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError


async def test_a_connection_lost_after_the_commit_doubles_nothing(settings: Settings, tenant: UUID) -> None:
    """When a connection is lost after its statement was committed, every alert is there once and answered with 201."""
    async with (
        one_connection(settings.database_url, CutOnRelease) as database,
        client_for(create_app(settings, database)) as client,
    ):
        alerts = await asyncio.gather(*(create_alert(client, tenant) for _ in range(10)))
        assert (await client.get(f"/stats/{tenant}")).json()["total"] == len(alerts) == 10
        assert CutOnRelease.cut


class Confused(asyncpg.Connection):
    """A connection that does not understand what the server answers, though neither has hung up."""

    async def fetch(self, *_: object, **__: object) -> NoReturn:
        raise asyncpg.InternalClientError("got result for unknown protocol state")


async def test_a_confused_connection_is_not_used_again(settings: Settings, tenant: UUID) -> None:
    """A connection whose statement was lost goes back to nobody, even where it still seems to be open."""
    async with (
        one_connection(settings.database_url, Confused) as database,
        client_for(create_app(settings, database)) as client,
    ):
        async with database.connections.acquire() as connection:
            before = connection.get_server_pid()
        assert_error(await client.get(f"/stats/{tenant}"), 500, "Database connection error")
        async with database.connections.acquire() as connection:
            assert connection.get_server_pid() != before


async def test_answers_of_a_group_reach_their_callers(client: httpx.AsyncClient) -> None:
    """Of many callers at once, some of them equal, each is answered with its own, and every alert is recorded."""
    tenants = [uuid4() for _ in range(40)]
    alerts = await asyncio.gather(*(create_alert(client, t, message=str(t)) for t in tenants for _ in range(2)))
    assert len({alert["id"] for alert in alerts}) == 80
    assert [alert["message"] for alert in alerts] == [alert["tenant_id"] for alert in alerts]
    assert [alert["tenant_id"] for alert in alerts] == [str(t) for t in tenants for _ in range(2)]
    found = await asyncio.gather(*(client.get(f"/alerts/{alert['id']}") for alert in alerts))
    assert [answer.json() for answer in found] == alerts
    moved = await asyncio.gather(
        *(client.put(f"/alerts/{a['id']}/resolve", json={"note": a["id"]}) for a in alerts[::2])
    )
    assert [(m.json()["id"], m.json()["resolution_note"]) for m in moved] == [(a["id"], a["id"]) for a in alerts[::2]]
    await create_alert(client, tenants[0])
    counts = await asyncio.gather(*(client.get(f"/stats/{t}") for t in tenants))
    assert [count.json()["total"] for count in counts] == [3] + [2] * 39


async def test_a_locked_row_holds_up_nobody_else(settings: Settings) -> None:
    """While one alert's row is locked, other tenants acknowledge theirs at once."""
    url = str(settings.database_url)
    async with (
        open_database(url, pool_size=3, pool_timeout=2, statement_timeout=1) as database,
        client_for(create_app(settings, database)) as client,
    ):
        locked, *others = [await create_alert(client, uuid4()) for _ in range(11)]
        locker = await asyncpg.connect(url)
        async with locker.transaction():
            await locker.execute("SELECT FROM alerts WHERE id = $1 FOR UPDATE", UUID(locked["id"]))
            paths = [f"/alerts/{alert['id']}/acknowledge" for alert in (locked, *others)]
            answers = await asyncio.gather(*(client.put(path) for path in paths))
        await locker.close()
        assert [answer.status_code for answer in answers] == [503] + [200] * 10


ORIGIN = "https://app.example.com"


@pytest.mark.parametrize(
    ("origins", "origin", "method", "allowed"),
    [
        (None, ORIGIN, "PUT", None),
        (f"https://a.example, {ORIGIN}", ORIGIN, "PUT", ORIGIN),
        (ORIGIN, ORIGIN, "DELETE", None),
        (ORIGIN, "https://evil.example", "PUT", None),
        (ORIGIN, ORIGIN + ".evil.example", "PUT", None),
        (ORIGIN, ORIGIN.replace(".", "x"), "PUT", None),
    ],
)
async def test_pages_of_other_origins(origins: str | None, origin: str, method: str, allowed: str | None) -> None:
    """A browser lets pages of the origins that are set call, and of no other, whose preflights are any OPTIONS."""
    path, preflight = f"/alerts/{UNKNOWN_ALERT_ID}/resolve", {"Origin": origin, "Access-Control-Request-Method": method}
    async with client_for(create_app(Settings(cors_origins=origins))) as client:
        asked = await client.options(path, headers={**preflight, "Access-Control-Request-Headers": "content-type"})
        called = await client.get("/health/live", headers={"Origin": origin})
        plain = await client.options(path, headers={"Origin": origin})
    assert asked.status_code == 204
    assert asked.headers.get("access-control-allow-origin") == allowed
    assert called.headers.get("access-control-allow-origin") == (
        origin if origin in (origins or "").split(", ") else None
    )
    assert ("PUT" in asked.headers.get("access-control-allow-methods", "")) == (allowed is not None)
    assert plain.headers["allow"] == "OPTIONS, PUT"
    if allowed is None:
        assert asked.headers.keys() == plain.headers.keys()


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


@pytest.mark.parametrize("origins", [None, ORIGIN])
@pytest.mark.parametrize("origin", [None, ORIGIN, "https://evil.example"])
async def test_every_response_says_how_browsers_and_caches_may_use_it(
    app: AlertsApp, settings: Settings, tenant: UUID, origins: str | None, origin: str | None
) -> None:
    common = {"Origin": origin} if origin else {}
    seen = []
    async with client_for(create_app(replace(settings, cors_origins=origins), app.state.database)) as client:
        alert = await create_alert(client, tenant)
        responses = [
            await client.request(method, path.format(alert=alert), headers=common) for method, path, *_ in CACHE_CONTROL
        ]
        etag = (await client.get(f"/alerts/{alert['id']}")).headers["etag"]
        unchanged = await client.get(f"/alerts/{alert['id']}", headers={"If-None-Match": etag, **common})
    for response in (*responses, unchanged):
        assert response.headers.get_list("x-content-type-options") == ["nosniff"], response.url
        assert response.headers.get_list("vary") == (["Origin"] if origins else []), response.url
        seen.append((response.status_code, response.headers.get_list("cache-control")))
    expected = [(status, [cache_control]) for *_, status, cache_control in CACHE_CONTROL]
    if origin and origin != origins:  # the requests that change something are rejected
        expected = [
            (403, ["no-store"]) if method in {"PUT", "POST", "DELETE"} else each
            for (method, *_), each in zip(CACHE_CONTROL, expected, strict=True)
        ]
    assert seen == [*expected, (304, [REVALIDATED])]


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
async def test_a_body_that_is_declared_something_else(
    app: AlertsApp, client: httpx.AsyncClient, name: str, value: str
) -> None:
    """A body that is declared to be no JSON, as a browser's form is, or compressed, is not read: 415 says why."""
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


async def test_a_body_that_is_not_declared(app: AlertsApp, client: httpx.AsyncClient) -> None:
    """A body that is not declared at all is read as JSON."""
    for method, path in routes_with_a_body(app):
        response = await client.request(method, path, content=b'{"no": 1}', headers={"X-Service-Key": SERVICE_KEY})
        assert_error(response, 422, "Validation error", 'unknown field "no"')


async def test_pages_say_how_they_may_be_used(client: httpx.AsyncClient) -> None:
    """The documentation is guarded by headers."""
    page = await client.get("/docs")
    assert page.headers["referrer-policy"] == "no-referrer"


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
