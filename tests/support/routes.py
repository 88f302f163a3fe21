"""All routes of the application, and requests to them that are generated from the signatures of their handlers.

A new route is covered by the tests of this list as soon as it exists. A parameter or field without a value here fails
them.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import product
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import httpx
import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.routes import HTTPRoute
from msgspec import Struct, structs

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.pagination import decode_alert_cursor, encode_alert_cursor, encode_event_cursor
from tests.support.api import alert_body
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

APP = create_app(Settings(tenant_jwt_secret=JWT_SECRET, internal_service_key="key"))
ROUTES_WITHOUT_TENANT = {"/health", "/health/live", "/health/details", "/openapi.json"}

# Values of parameters and fields that belong to no tenant.
TENANT_NEUTRAL_VALUES = {
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
# A body holds exactly one of these fields.
EXCLUSIVE_FIELDS = {"ids", "filter"}
# The message of the victim's alerts.
SECRET_TEXT = "for the owner's eyes only"

# The method, the path with placeholders, and the handler.
Route: TypeAlias = tuple[str, str, HTTPRouteHandler]
# The values of a request by the part of the request ("path", "query", "header" or "body") and the name.
RequestValues: TypeAlias = dict[tuple[str, str], Any]


def find_routes() -> Iterator[Route]:
    for route in APP.routes:
        path = route.path_format
        if path in ROUTES_WITHOUT_TENANT or path == "/docs" or path.startswith("/docs/"):
            continue
        assert isinstance(route, HTTPRoute), f"{path}: only HTTP routes are supported"
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods - {"OPTIONS"}):  # OPTIONS requests never reach a handler
                yield method, path, handler


def route_name(route: Route) -> str:
    return f"{route[0]} {route[1]}"


ROUTES = sorted(find_routes(), key=route_name)
INTERNAL_ROUTES = [route for route in ROUTES if route[1].startswith("/internal")]
PUBLIC_ROUTES = [route for route in ROUTES if route not in INTERNAL_ROUTES]


class RequestParts(Struct, frozen=True):
    """The names of the parameters and fields of a request, by the part of the request."""

    path: list[str]
    query: list[str]
    header: list[str]
    body: list[str]

    def keys(self, *parts: str) -> list[tuple[str, str]]:
        return [(part, name) for part in parts for name in getattr(self, part)]


def request_parts(route: Route) -> RequestParts:
    """Return all parameters and fields that a route accepts."""
    _, path, handler = route
    parameters = dict(handler.parsed_fn_signature.parameters)
    for name in ("self", "request"):
        parameters.pop(name, None)
    data = parameters.pop("data", None)
    in_path = [name for name in parameters if f"{{{name}}}" in path]
    definitions = {name: parameter.kwarg_definition for name, parameter in parameters.items()}
    in_query = {
        name: definition.name or name
        for name, definition in definitions.items()
        if isinstance(definition, QueryParameter)
    }
    in_header = [parameter.name for parameter in handler.opt.get("headers", ())]
    assert parameters.keys() == {*in_path, *in_query}, f"{route_name(route)}: a parameter of an unknown kind"
    if path.endswith("/history") and "cursor" in in_query:
        in_query["cursor"] = "history cursor"
    return RequestParts(
        in_path,
        [*in_query.values()],
        in_header,
        [field.encode_name for field in structs.fields(data.annotation)] if data else [],
    )


class Party:
    """A tenant with one of its alerts, and the request values that refer to them."""

    def __init__(self, tenant: UUID, alert_id: UUID, created_at: datetime) -> None:
        self.tenant = tenant
        self.values: dict[str, Any] = {
            "tenant_id": str(tenant),
            "alert_id": str(alert_id),
            "alerts": [alert_body(tenant)],
            "ids": [str(alert_id)],
            "filter": {"tenant_id": str(tenant)},
            "cursor": encode_alert_cursor(created_at, alert_id),
            "history cursor": encode_event_cursor(created_at, alert_id, 0),
        }


async def send_request(
    client: httpx.AsyncClient, route: Route, values: RequestValues, headers: dict[str, str]
) -> httpx.Response:
    method, path, _ = route
    for (part, name), value in values.items():
        path = path.replace(f"{{{name}}}", value) if part == "path" else path
    query = {name.split()[-1]: value for (part, name), value in values.items() if part == "query"}
    header_values = {name: value for (part, name), value in values.items() if part == "header"}
    body = {name: value for (part, name), value in values.items() if part == "body"}
    return await client.request(method, path, params=query, json=body or None, headers={**headers, **header_values})


class TwoTenants:
    """An attacker and a victim, each with three alerts, and the values of a tenant and an alert that do not exist."""

    def __init__(self, client: httpx.AsyncClient, connection: Any, attacker: Party, victim: Party) -> None:
        self.client, self.connection = client, connection
        self.attacker, self.victim = attacker, victim
        created_at, _ = decode_alert_cursor(victim.values["cursor"])
        self.nonexistent = Party(uuid4(), uuid4(), created_at)

    async def send_request(self, route: Route, values: RequestValues, tenant: UUID) -> httpx.Response:
        """Send a request with the token of a tenant."""
        return await send_request(self.client, route, values, bearer_header(sign_token("HS256", tenant)))

    async def victim_rows(self) -> list[Any]:
        """Read the victim's rows of every table that has a tenant."""
        tables = await self.connection.fetch(
            "SELECT table_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1"
        )
        return [
            await self.connection.fetch(f"SELECT * FROM {name} WHERE tenant_id = $1 ORDER BY 1, 2", self.victim.tenant)
            for (name,) in tables
        ]


async def create_party(client: httpx.AsyncClient, tenant: UUID, message: str) -> Party:
    body = alert_body(tenant, rule_name="r", message=message, severity="high")
    headers = bearer_header(sign_token("HS256", tenant))
    alerts = [(await client.post("/alerts", json=body, headers=headers)).json() for _ in range(3)]
    return Party(tenant, UUID(alerts[1]["id"]), msgspec.convert(alerts[1]["created_at"], datetime))


def request_variants(route: Route, tenants: TwoTenants) -> Iterator[RequestValues]:
    """Yield every combination of the victim's and the attacker's values, with and without each optional one.

    A value that belongs to a tenant is still the `Party`: `fill_in` replaces it. At least one is the victim's.
    """
    keys = request_parts(route).keys("path", "query", "header", "body")
    options: list[tuple[Any, ...]] = []
    for part, name in keys:
        has_value = name in tenants.victim.values or name in TENANT_NEUTRAL_VALUES
        assert has_value, f"{route_name(route)}: no value for {name}; add one to TENANT_NEUTRAL_VALUES or Party"
        absent = (None,) if part in {"query", "header"} or name in EXCLUSIVE_FIELDS else ()
        neutral = name in TENANT_NEUTRAL_VALUES
        present = (TENANT_NEUTRAL_VALUES[name],) if neutral else (tenants.victim, tenants.attacker)
        options.append((*present, *absent))
    has_exclusive_fields = any(name in EXCLUSIVE_FIELDS for _, name in keys)
    for values in product(*options):
        variant = dict(zip(keys, values, strict=True))
        exclusive = [key for key in keys if key[1] in EXCLUSIVE_FIELDS and variant[key] is not None]
        if tenants.victim in values and len(exclusive) == int(has_exclusive_fields):
            yield variant


def fill_in(variant: RequestValues, replacements: dict[Party, Party]) -> RequestValues:
    """Replace each party by its value, and leave out what is None. A party in `replacements` is exchanged first."""
    return {
        key: replacements.get(value, value).values[key[1]] if isinstance(value, Party) else value
        for key, value in variant.items()
        if value is not None
    }


def owner_request(route: Route, tenants: TwoTenants) -> RequestValues:
    """Return the values of a request that refers to the victim's own data alone."""
    variant = next(request_variants(route, tenants))
    return fill_in({key: tenants.victim if isinstance(value, Party) else value for key, value in variant.items()}, {})
