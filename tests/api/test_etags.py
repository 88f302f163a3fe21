"""The ETag of an alert, and conditional requests (If-Match, If-None-Match)."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.api import alert_body, assert_error, create_alert, transition

pytestmark = pytest.mark.anyio


async def test_each_change_of_an_alert_returns_a_new_etag(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A subsequent GET returns the ETag of the last change."""
    created = await client.post("/alerts", json=alert_body(tenant))
    acknowledged = await transition(client, created.json(), "acknowledge")
    resolved = await transition(client, created.json(), "resolve")
    etags = []
    for response in (created, acknowledged, resolved):
        etags.append(response.headers["etag"])
        assert etags[-1] == f'"{response.json()["updated_at"]}"'
    assert len(set(etags)) == 3
    assert (await client.get(f"/alerts/{created.json()['id']}")).headers["etag"] == etags[-1]


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
async def test_a_matching_if_match_allows_a_transition(client: httpx.AsyncClient, tenant: UUID, verb: str) -> None:
    for if_match in ("{}", '"other", {}', "*"):
        alert = await create_alert(client, tenant)
        headers = {"If-Match": if_match.format(f'"{alert["updated_at"]}"')}
        response = await client.put(f"/alerts/{alert['id']}/{verb}", headers=headers)
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize(
    "if_match",
    ['"other"', "", 'W/"{}"', "{}", '"{}'],
    ids=["another ETag", "empty", "weak ETag", "without quotes", "without the closing quote"],
)
async def test_another_if_match_rejects_a_transition(
    client: httpx.AsyncClient, tenant: UUID, verb: str, if_match: str
) -> None:
    """The detail contains the current ETag."""
    alert = await create_alert(client, tenant)
    headers = {"If-Match": if_match.format(alert["updated_at"])}
    response = await client.put(f"/alerts/{alert['id']}/{verb}", headers=headers)
    assert_error(response, 412, "Precondition failed", alert["updated_at"])
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_if_match_of_an_unknown_alert_is_404(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert of another tenant is unknown, even if its ETag matches."""
    alert = await create_alert(client, tenant)
    for path in (f"/alerts/{uuid4()}/resolve", f"/alerts/{alert['id']}/resolve?tenant_id={uuid4()}"):
        response = await client.put(path, headers={"If-Match": f'"{alert["updated_at"]}"'})
        assert_error(response, 404, "Alert not found")


async def test_one_of_several_requests_with_the_same_if_match_succeeds(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The others are 412, also where the alert is already in the requested state."""
    alert = await create_alert(client, tenant)
    headers = {"If-Match": f'"{alert["updated_at"]}"'}
    paths = [f"/alerts/{alert['id']}/{verb}" for verb in ("acknowledge", "resolve") * 10]
    responses = await asyncio.gather(*(client.put(path, headers=headers) for path in paths))
    assert sorted(response.status_code for response in responses) == [200] + [412] * 19


async def test_if_none_match_returns_304_until_the_alert_changes(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    etag = f'"{alert["updated_at"]}"'
    for if_none_match in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        for method in ("GET", "HEAD"):
            headers = {"If-None-Match": if_none_match}
            response = await client.request(method, f"/alerts/{alert['id']}", headers=headers)
            assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    await transition(client, alert, "resolve")
    response = await client.get(f"/alerts/{alert['id']}", headers={"If-None-Match": etag})
    assert (response.status_code, response.json()["status"]) == (200, "resolved")
