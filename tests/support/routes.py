"""Every route of the application, with the requests that can be made from its signature."""

from collections.abc import Iterator
from datetime import datetime
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.routes import HTTPRoute
from msgspec import Struct, structs

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web import pagination as cursor
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

APP = create_app(Settings(tenant_jwt_secret=JWT_SECRET, internal_service_key="key"))


ROUTES_WITHOUT_TENANT = {"/health", "/health/live", "/health/details", "/openapi.json"}


HARMLESS_VALUES = {
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


EXCLUSIVE_FIELDS = {"ids", "filter"}  # which a body has


SECRET_TEXT = "for the owner's eyes only"


Route = tuple[str, str, HTTPRouteHandler]


def routes() -> Iterator[Route]:
    for route in APP.routes:
        path = route.path_format
        if path in ROUTES_WITHOUT_TENANT or path == "/docs" or path.startswith("/docs/"):
            continue
        assert isinstance(route, HTTPRoute), f"nobody knows how to attack {path}"
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods - {"OPTIONS"}):  # which the service answers before any handler
                yield method, path, handler


def route_name(route: Route) -> str:
    return f"{route[0]} {route[1]}"


ROUTES = sorted(routes(), key=route_name)


INTERNAL = [route for route in ROUTES if route[1].startswith("/internal")]


PUBLIC = [route for route in ROUTES if route not in INTERNAL]


class RequestParts(Struct, frozen=True):
    """What a request consists of, by the places where its values go."""

    path: list[str]
    query: list[str]
    header: list[str]
    body: list[str]


def request_parts(route: Route) -> RequestParts:
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
    assert given.keys() == {*in_path, *in_query}, f"nobody knows how to attack {route_name(route)}"
    if path.endswith("/history") and "cursor" in in_query:
        in_query["cursor"] = "history cursor"
    return RequestParts(
        in_path,
        [*in_query.values()],
        in_header,
        [field.encode_name for field in structs.fields(data.annotation)] if data else [],
    )


class Party:
    """What somebody can name: a tenant, one of its alerts, a place in its list."""

    def __init__(self, tenant: UUID, alert: UUID, created_at: datetime) -> None:
        self.tenant = tenant
        self.values: dict[str, Any] = {
            "tenant_id": str(tenant),
            "alert_id": str(alert),
            "alerts": [{"tenant_id": str(tenant), "rule_name": "attack", "message": "attack"}],
            "ids": [str(alert)],
            "filter": {"tenant_id": str(tenant)},
            "cursor": cursor.encode_alert_cursor(created_at, alert),
            "history cursor": cursor.encode_event_cursor(created_at, alert, 0),
        }


async def send_request(
    client: httpx.AsyncClient, route: Route, values: dict[tuple[str, str], Any], headers: dict[str, str]
) -> httpx.Response:
    method, path, _ = route
    for (place, name), value in values.items():
        path = path.replace(f"{{{name}}}", value) if place == "path" else path
    query = {name.split()[-1]: value for (place, name), value in values.items() if place == "query"}
    given = {name: value for (place, name), value in values.items() if place == "header"}
    body = {name: value for (place, name), value in values.items() if place == "body"}
    return await client.request(method, path, params=query, json=body or None, headers={**headers, **given})


class TwoTenants:
    """An attacker and a victim, each with alerts, and somebody who does not exist."""

    def __init__(self, client: httpx.AsyncClient, connection: Any, attacker: Party, victim: Party) -> None:
        self.client, self.connection = client, connection
        self.attacker, self.victim = attacker, victim
        moment = cursor.decode_alert_cursor(victim.values["cursor"])[0]
        self.nobody = Party(uuid4(), uuid4(), moment)

    async def send_request(self, route: Route, values: dict[tuple[str, str], Any], tenant: UUID) -> httpx.Response:
        return await send_request(self.client, route, values, bearer_header(sign_token("HS256", tenant)))

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


async def create_party(client: httpx.AsyncClient, tenant: UUID, message: str) -> Party:
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": message, "severity": "high"}
    made = [
        (await client.post("/alerts", json=body, headers=bearer_header(sign_token("HS256", tenant)))).json()
        for _ in range(3)
    ]
    return Party(tenant, UUID(made[1]["id"]), msgspec.convert(made[1]["created_at"], datetime))


def request_variants(route: Route, world: TwoTenants) -> Iterator[dict[tuple[str, str], Any]]:
    """Every way to fill in a request with things of the victim and of the attacker, and to leave a query out."""
    places = [
        (place, name) for place in ("path", "query", "header", "body") for name in getattr(request_parts(route), place)
    ]
    options: list[tuple[Any, ...]] = []
    for place, name in places:
        known = name in world.victim.values or name in HARMLESS_VALUES
        assert known, f"nobody knows how to attack {route_name(route)}: what is {name}?"
        left_out = (None,) if place in {"query", "header"} or name in EXCLUSIVE_FIELDS else ()
        options.append(
            (HARMLESS_VALUES[name], *left_out) if name in HARMLESS_VALUES else (world.victim, world.attacker, *left_out)
        )
    for values in product(*options):
        chosen = dict(zip(places, values, strict=True))
        given = [name for place, name in places if name in EXCLUSIVE_FIELDS and chosen[place, name] is not None]
        if world.victim in values and len(given) == bool(EXCLUSIVE_FIELDS & {name for _, name in places}):
            yield chosen


def fill_in(chosen: dict[tuple[str, str], Any], swap: dict[Party, Party]) -> dict[tuple[str, str], Any]:
    return {
        place: swap.get(value, value).values[place[1]] if isinstance(value, Party) else value
        for place, value in chosen.items()
        if value is not None
    }
