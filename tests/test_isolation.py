"""Every route of the application, attacked: a tenant cannot tell another's things from things that are not."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.routes import HTTPRoute
from msgspec import Struct, structs
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web import pagination as cursor
from alerts_service.web.middleware import Service
from tests.calls import assert_error
from tests.conftest import client_of
from tests.test_tokens import SECRET, bearer, token

pytestmark = pytest.mark.anyio

APP = create_app(Settings(tenant_jwt_secret=SECRET, internal_service_key="key"))
TENANTLESS = {"/health", "/health/live", "/health/details", "/openapi.json"}
HARMLESS = {
    "status": "triggered",
    "severity": "high",
    "rule_name": "r",
    "created_after": "2026-01-01T00:00:00Z",
    "created_before": "2999-01-01T00:00:00Z",
    "q": "r -attack",
    "message": "attack",
    "note": "attack",
    "dedup_key": "attack",
    "dry_run": False,
    "type": "created",
    "since": "2026-01-01T00:00:00Z",
    "until": "2999-01-01T00:00:00Z",
    "If-Match": "*",
    "If-None-Match": '"attack"',
}
ONE_OF = {"ids", "filter"}  # which a body has
MARK = "for the owner's eyes only"

Route = tuple[str, str, HTTPRouteHandler]


def routes() -> Iterator[Route]:
    for route in APP.routes:
        path = route.path_format
        if path in TENANTLESS or path == "/docs" or path.startswith("/docs/"):
            continue
        assert isinstance(route, HTTPRoute), f"nobody knows how to attack {path}"
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods - {"OPTIONS"}):  # which the service answers before any handler
                yield method, path, handler


def named(route: Route) -> str:
    return f"{route[0]} {route[1]}"


ROUTES = sorted(routes(), key=named)
INTERNAL = [route for route in ROUTES if route[1].startswith("/internal")]
PUBLIC = [route for route in ROUTES if route not in INTERNAL]


class Parts(Struct, frozen=True):
    """What a request consists of, by the places where its values go."""

    path: list[str]
    query: list[str]
    header: list[str]
    body: list[str]


def parts(route: Route) -> Parts:
    """Take a route apart: all that its signature lets a caller say."""
    _, path, handler = route
    given = dict(handler.parsed_fn_signature.parameters)
    for name in ("self", "request"):
        given.pop(name, None)
    data = given.pop("data", None)
    in_path = [name for name in given if f"{{{name}}}" in path]
    definitions = {name: it.kwarg_definition for name, it in given.items()}
    in_query = {name: it.name or name for name, it in definitions.items() if isinstance(it, QueryParameter)}
    in_header = [parameter.name for parameter in handler.opt.get("headers", ())]
    assert given.keys() == {*in_path, *in_query}, f"nobody knows how to attack {named(route)}"
    if path.endswith("/history") and "cursor" in in_query:
        in_query["cursor"] = "history cursor"
    return Parts(
        in_path,
        [*in_query.values()],
        in_header,
        [field.encode_name for field in structs.fields(data.annotation)] if data else [],
    )


class Side:
    """What somebody can name: a tenant, one of its alerts, a place in its list."""

    def __init__(self, tenant: UUID, alert: UUID, created_at: datetime) -> None:
        self.tenant = tenant
        self.values: dict[str, Any] = {
            "tenant_id": str(tenant),
            "alert_id": str(alert),
            "alerts": [{"tenant_id": str(tenant), "rule_name": "attack", "message": "attack"}],
            "ids": [str(alert)],
            "filter": {"tenant_id": str(tenant)},
            "cursor": cursor.encode(created_at, alert),
            "history cursor": cursor.encode_event(created_at, alert, 0),
        }


async def call(
    client: httpx.AsyncClient, route: Route, values: dict[tuple[str, str], Any], headers: dict[str, str]
) -> httpx.Response:
    method, path, _ = route
    for (place, name), value in values.items():
        path = path.replace(f"{{{name}}}", value) if place == "path" else path
    query = {name.split()[-1]: value for (place, name), value in values.items() if place == "query"}
    given = {name: value for (place, name), value in values.items() if place == "header"}
    body = {name: value for (place, name), value in values.items() if place == "body"}
    return await client.request(method, path, params=query, json=body or None, headers={**headers, **given})


class World:
    """An attacker and a victim, each with alerts, and somebody who does not exist."""

    def __init__(self, client: httpx.AsyncClient, connection: Any, attacker: Side, victim: Side) -> None:
        self.client, self.connection = client, connection
        self.attacker, self.victim = attacker, victim
        moment = cursor.decode(victim.values["cursor"])[0]
        self.nobody = Side(uuid4(), uuid4(), moment)

    async def call(self, route: Route, values: dict[tuple[str, str], Any], tenant: UUID) -> httpx.Response:
        return await call(self.client, route, values, bearer(token("HS256", tenant)))

    async def kept(self) -> list[Any]:
        """All that the database keeps of the victim."""
        tables = await self.connection.fetch(
            "SELECT table_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1"
        )
        return [
            await self.connection.fetch(f"SELECT * FROM {name} WHERE tenant_id = $1 ORDER BY 1, 2", self.victim.tenant)
            for (name,) in tables
        ]


async def side(client: httpx.AsyncClient, tenant: UUID, message: str) -> Side:
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": message, "severity": "high"}
    made = [(await client.post("/alerts", json=body, headers=bearer(token("HS256", tenant)))).json() for _ in range(3)]
    return Side(tenant, UUID(made[1]["id"]), msgspec.convert(made[1]["created_at"], datetime))


@pytest.fixture
async def world(app: Service, settings: Settings) -> AsyncIterator[World]:
    guarded = create_app(replace(settings, tenant_jwt_secret=SECRET), app.state.database)
    connection = await asyncpg.connect(settings.database_url)
    async with client_of(guarded) as client:
        attacker, victim = await side(client, uuid4(), "mine"), await side(client, uuid4(), MARK)
        yield World(client, connection, attacker, victim)
    await connection.close()


def choices(route: Route, world: World) -> Iterator[dict[tuple[str, str], Any]]:
    """Every way to fill in a request with things of the victim and of the attacker, and to leave a query out."""
    places = [(place, name) for place in ("path", "query", "header", "body") for name in getattr(parts(route), place)]
    options: list[tuple[Any, ...]] = []
    for place, name in places:
        known = name in world.victim.values or name in HARMLESS
        assert known, f"nobody knows how to attack {named(route)}: what is {name}?"
        left_out = (None,) if place in {"query", "header"} or name in ONE_OF else ()
        options.append((HARMLESS[name], *left_out) if name in HARMLESS else (world.victim, world.attacker, *left_out))
    for values in product(*options):
        chosen = dict(zip(places, values, strict=True))
        given = [name for place, name in places if name in ONE_OF and chosen[place, name] is not None]
        if world.victim in values and len(given) == bool(ONE_OF & {name for _, name in places}):
            yield chosen


def filled(chosen: dict[tuple[str, str], Any], swap: dict[Side, Side]) -> dict[tuple[str, str], Any]:
    return {
        place: swap.get(value, value).values[place[1]] if isinstance(value, Side) else value
        for place, value in chosen.items()
        if value is not None
    }


def seen(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    return response.status_code, response.content, headers


@pytest.mark.parametrize("route", PUBLIC, ids=named)
async def test_nothing_is_seen_of_another_tenant(world: World, route: Route) -> None:
    """Whatever of another tenant's a request names is answered exactly as if it did not exist, and stays as it is."""
    before = await world.kept()
    attacks = list(choices(route, world))
    assert attacks, f"nobody knows how to attack {named(route)}: it takes nothing that is a tenant's"
    for chosen in attacks:
        attack = await world.call(route, filled(chosen, {}), world.attacker.tenant)
        unknown = await world.call(route, filled(chosen, {world.victim: world.nobody}), world.attacker.tenant)
        assert seen(attack) == seen(unknown), chosen
        assert MARK not in attack.text
        assert str(world.victim.tenant) not in attack.text
        assert b'"status":2' not in attack.content
        assert attack.status_code < 500, attack.text
    assert await world.kept() == before


@pytest.mark.parametrize("route", PUBLIC, ids=named)
async def test_the_owner_is_served(world: World, route: Route) -> None:
    """What an attacker is refused, its owner is given: so no attack fails for another reason."""
    chosen = next(choices(route, world))
    owned = {place: world.victim if isinstance(value, Side) else value for place, value in chosen.items()}
    response = await world.call(route, filled(owned, {}), world.victim.tenant)
    assert response.status_code in {200, 201}, response.text
    assert response.content not in {b"[]", b"null"}
    assert b'"status":4' not in response.content


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_options_tell_nothing(world: World, route: Route) -> None:
    """OPTIONS, which asks for no token, is answered alike for one's own, another's and what is not there."""
    _, path, handler = route

    def naming(side: Side) -> dict[tuple[str, str], Any]:
        places = [(place, name) for place in ("path", "query") for name in getattr(parts(route), place)]
        return {(place, name): side.values[name] for place, name in places if name in side.values}

    for headers in ({}, bearer(token("HS256", world.victim.tenant))):
        answers = [
            seen(await call(world.client, ("OPTIONS", path, handler), naming(side), headers))
            for side in (world.victim, world.attacker, world.nobody)
        ]
        assert answers == answers[:1] * 3
        assert answers[0][0] == 204
        assert route[0] in answers[0][2]["allow"]


@pytest.mark.parametrize("route", PUBLIC, ids=named)
async def test_every_route_of_a_tenant_asks_for_a_token(world: World, route: Route) -> None:
    """Without a token every route outside health and documentation is 401, and the service key is none."""
    path = route[1].replace("{alert_id}", str(uuid4())).replace("{tenant_id}", str(uuid4()))
    for headers in ({}, {"x-service-key": "a-key-for-tests"}):
        response = await world.client.request(route[0], path, headers=headers)
        assert_error(response, 401, "Unauthorized", "authorization")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", INTERNAL, ids=named)
async def test_every_internal_route_asks_for_the_key(world: World, route: Route) -> None:
    """Without the service key, or with a wrong one, every internal route is 401, and a tenant's token is none."""
    path = route[1].replace("{alert_id}", str(uuid4())).replace("{tenant_id}", str(uuid4()))
    for headers in ({}, {"x-service-key": "wrong"}, bearer(token("HS256", world.attacker.tenant))):
        response = await world.client.request(route[0], path, headers=headers)
        assert_error(response, 401, "Unauthorized", "x-service-key")


def test_there_is_something_to_attack() -> None:
    """The routes that are attacked are those that there are."""
    assert len(PUBLIC) >= 9
    assert len(INTERNAL) >= 4
