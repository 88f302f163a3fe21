"""Isolation of tenants on every route: another tenant's data is indistinguishable from data that does not exist."""

from uuid import uuid4

import httpx
import pytest

from tests.support.api import SERVICE_KEY, assert_error
from tests.support.routes import (
    INTERNAL_ROUTES,
    PUBLIC_ROUTES,
    ROUTES,
    SECRET_TEXT,
    Party,
    RequestValues,
    Route,
    TwoTenants,
    fill_in,
    owner_request,
    request_parts,
    request_variants,
    route_name,
    send_request,
)
from tests.support.tokens import bearer_header, sign_token

pytestmark = pytest.mark.anyio


def observable(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return all of a response but its request id."""
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    return response.status_code, response.content, headers


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=route_name)
async def test_another_tenants_data_looks_nonexistent_and_is_not_changed(two_tenants: TwoTenants, route: Route) -> None:
    rows = await two_tenants.victim_rows()
    attacker, victim = two_tenants.attacker, two_tenants.victim
    variants = list(request_variants(route, two_tenants))
    assert variants, f"{route_name(route)}: takes no value that belongs to a tenant"
    for variant in variants:
        attack = await two_tenants.send_request(route, fill_in(variant, {}), attacker.tenant)
        nonexistent = fill_in(variant, {victim: two_tenants.nonexistent})
        reference = await two_tenants.send_request(route, nonexistent, attacker.tenant)
        assert observable(attack) == observable(reference), variant
        assert SECRET_TEXT not in attack.text
        assert str(victim.tenant) not in attack.text
        assert b'"status":2' not in attack.content
        assert attack.status_code < 500, attack.text
    assert await two_tenants.victim_rows() == rows


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=route_name)
async def test_the_owner_succeeds_with_the_same_request(two_tenants: TwoTenants, route: Route) -> None:
    """The attacks above therefore fail because of the tenant alone."""
    response = await two_tenants.send_request(route, owner_request(route, two_tenants), two_tenants.victim.tenant)
    assert response.status_code in {200, 201}, response.text
    assert response.content not in {b"[]", b"null"}
    assert b'"status":4' not in response.content


@pytest.mark.parametrize("route", ROUTES, ids=route_name)
async def test_options_responses_do_not_depend_on_the_tenant_or_alert(two_tenants: TwoTenants, route: Route) -> None:
    """OPTIONS requires no token."""
    _, path, handler = route

    def values_of(party: Party) -> RequestValues:
        keys = request_parts(route).keys("path", "query")
        return {key: party.values[key[1]] for key in keys if key[1] in party.values}

    for headers in ({}, bearer_header(sign_token("HS256", two_tenants.victim.tenant))):
        responses = [
            observable(await send_request(two_tenants.client, ("OPTIONS", path, handler), values_of(party), headers))
            for party in (two_tenants.victim, two_tenants.attacker, two_tenants.nonexistent)
        ]
        assert responses == responses[:1] * 3
        assert responses[0][0] == 204
        assert route[0] in responses[0][2]["allow"]


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=route_name)
async def test_public_routes_require_a_token(two_tenants: TwoTenants, route: Route) -> None:
    """The service key does not replace the token."""
    path = route[1].replace("{alert_id}", str(uuid4())).replace("{tenant_id}", str(uuid4()))
    for headers in ({}, {"x-service-key": SERVICE_KEY}):
        response = await two_tenants.client.request(route[0], path, headers=headers)
        assert_error(response, 401, "Unauthorized", "Authorization")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", INTERNAL_ROUTES, ids=route_name)
async def test_internal_routes_require_the_service_key(two_tenants: TwoTenants, route: Route) -> None:
    """A token does not replace the service key."""
    path = route[1].replace("{alert_id}", str(uuid4())).replace("{tenant_id}", str(uuid4()))
    token = sign_token("HS256", two_tenants.attacker.tenant)
    for headers in ({}, {"x-service-key": "wrong"}, bearer_header(token)):
        response = await two_tenants.client.request(route[0], path, headers=headers)
        assert_error(response, 401, "Unauthorized", "x-service-key")


def test_the_route_list_covers_the_public_and_internal_routes() -> None:
    assert len(PUBLIC_ROUTES) >= 9
    assert len(INTERNAL_ROUTES) >= 4
