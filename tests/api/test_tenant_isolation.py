"""Every route of the application, attacked: a tenant cannot tell another's things from things that are not."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.api import assert_error
from tests.support.routes import (
    INTERNAL,
    PUBLIC,
    ROUTES,
    SECRET_TEXT,
    Party,
    Route,
    TwoTenants,
    fill_in,
    request_parts,
    request_variants,
    route_name,
    send_request,
)
from tests.support.tokens import bearer_header, sign_token

pytestmark = pytest.mark.anyio


def seen(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    return response.status_code, response.content, headers


@pytest.mark.parametrize("route", PUBLIC, ids=route_name)
async def test_nothing_is_seen_of_another_tenant(world: TwoTenants, route: Route) -> None:
    """Whatever of another tenant's a request names is answered exactly as if it did not exist, and stays as it is."""
    before = await world.kept()
    attacks = list(request_variants(route, world))
    assert attacks, f"nobody knows how to attack {route_name(route)}: it takes nothing that is a tenant's"
    for chosen in attacks:
        attack = await world.send_request(route, fill_in(chosen, {}), world.attacker.tenant)
        unknown = await world.send_request(route, fill_in(chosen, {world.victim: world.nobody}), world.attacker.tenant)
        assert seen(attack) == seen(unknown), chosen
        assert SECRET_TEXT not in attack.text
        assert str(world.victim.tenant) not in attack.text
        assert b'"status":2' not in attack.content
        assert attack.status_code < 500, attack.text
    assert await world.kept() == before


@pytest.mark.parametrize("route", PUBLIC, ids=route_name)
async def test_the_owner_is_served(world: TwoTenants, route: Route) -> None:
    """What an attacker is refused, its owner is given: so no attack fails for another reason."""
    chosen = next(request_variants(route, world))
    owned = {place: world.victim if isinstance(value, Party) else value for place, value in chosen.items()}
    response = await world.send_request(route, fill_in(owned, {}), world.victim.tenant)
    assert response.status_code in {200, 201}, response.text
    assert response.content not in {b"[]", b"null"}
    assert b'"status":4' not in response.content


@pytest.mark.parametrize("route", ROUTES, ids=route_name)
async def test_options_tell_nothing(world: TwoTenants, route: Route) -> None:
    """OPTIONS, which asks for no token, is answered alike for one's own, another's and what is not there."""
    _, path, handler = route

    def naming(side: Party) -> dict[tuple[str, str], Any]:
        places = [(place, name) for place in ("path", "query") for name in getattr(request_parts(route), place)]
        return {(place, name): side.values[name] for place, name in places if name in side.values}

    for headers in ({}, bearer_header(sign_token("HS256", world.victim.tenant))):
        answers = [
            seen(await send_request(world.client, ("OPTIONS", path, handler), naming(side), headers))
            for side in (world.victim, world.attacker, world.nobody)
        ]
        assert answers == answers[:1] * 3
        assert answers[0][0] == 204
        assert route[0] in answers[0][2]["allow"]


@pytest.mark.parametrize("route", PUBLIC, ids=route_name)
async def test_every_route_of_a_tenant_asks_for_a_token(world: TwoTenants, route: Route) -> None:
    """Without a token every route outside health and documentation is 401, and the service key is none."""
    path = route[1].replace("{alert_id}", str(uuid4())).replace("{tenant_id}", str(uuid4()))
    for headers in ({}, {"x-service-key": "a-key-for-tests"}):
        response = await world.client.request(route[0], path, headers=headers)
        assert_error(response, 401, "Unauthorized", "Authorization")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", INTERNAL, ids=route_name)
async def test_every_internal_route_asks_for_the_key(world: TwoTenants, route: Route) -> None:
    """Without the service key, or with a wrong one, every internal route is 401, and a tenant's token is none."""
    path = route[1].replace("{alert_id}", str(uuid4())).replace("{tenant_id}", str(uuid4()))
    for headers in ({}, {"x-service-key": "wrong"}, bearer_header(sign_token("HS256", world.attacker.tenant))):
        response = await world.client.request(route[0], path, headers=headers)
        assert_error(response, 401, "Unauthorized", "x-service-key")


def test_there_is_something_to_attack() -> None:
    """The routes that are attacked are those that there are."""
    assert len(PUBLIC) >= 9
    assert len(INTERNAL) >= 4
