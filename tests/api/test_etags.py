"""A single alert's ETag, and requests that hold only while it is the same."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.api import assert_error, create_alert, transition

pytestmark = pytest.mark.anyio


async def test_every_change_is_another_tag(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Recording, acknowledging and resolving each answer with a tag of their own, which GET then answers with too."""
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    created = await client.post("/alerts", json=body)
    tags = []
    for answer in (
        created,
        await transition(client, created.json(), "acknowledge"),
        await transition(client, created.json(), "resolve"),
    ):
        tags.append(answer.headers["etag"])
        assert tags[-1] == f'"{answer.json()["updated_at"]}"'
    assert len(set(tags)) == 3
    assert (await client.get(f"/alerts/{created.json()['id']}")).headers["etag"] == tags[-1]


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
async def test_a_change_of_what_is_still_the_same(client: httpx.AsyncClient, tenant: UUID, verb: str) -> None:
    """A change is made where one of the tags, or any, is the alert's."""
    for tags in ("{}", '"other", {}', "*"):
        alert = await create_alert(client, tenant)
        headers = {"If-Match": tags.format(f'"{alert["updated_at"]}"')}
        response = await client.put(f"/alerts/{alert['id']}/{verb}", headers=headers)
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("tags", ['"other"', "", 'W/"{}"', "{}", '"{}'])
async def test_a_change_of_what_has_changed(client: httpx.AsyncClient, tenant: UUID, verb: str, tags: str) -> None:
    """With other tags, weak ones, or what is no tag nothing is changed, and the answer tells the tag."""
    alert = await create_alert(client, tenant)
    headers = {"If-Match": tags.format(alert["updated_at"])}
    response = await client.put(f"/alerts/{alert['id']}/{verb}", headers=headers)
    assert_error(response, 412, "Precondition failed", alert["updated_at"])
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_no_alert_to_match(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert that is not there is that, whatever its tag should be."""
    alert = await create_alert(client, tenant)
    for path in (f"/alerts/{uuid4()}/resolve", f"/alerts/{alert['id']}/resolve?tenant_id={uuid4()}"):
        response = await client.put(path, headers={"If-Match": f'"{alert["updated_at"]}"'})
        assert_error(response, 404, "Alert not found")


async def test_one_of_many_wins(client: httpx.AsyncClient, tenant: UUID) -> None:
    """Of callers that all saw the same alert, one changes it; an older tag does not even repeat a change."""
    alert = await create_alert(client, tenant)
    headers = {"If-Match": f'"{alert["updated_at"]}"'}
    paths = [f"/alerts/{alert['id']}/{verb}" for verb in ("acknowledge", "resolve") * 10]
    answers = await asyncio.gather(*(client.put(path, headers=headers) for path in paths))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19


async def test_get_only_what_has_changed(client: httpx.AsyncClient, tenant: UUID) -> None:
    """GET and HEAD with the alert's tag, strong, weak or any, answer 304 without a body; with an old one the alert."""
    alert = await create_alert(client, tenant)
    tag = f'"{alert["updated_at"]}"'
    for tags in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        for method in ("GET", "HEAD"):
            response = await client.request(method, f"/alerts/{alert['id']}", headers={"If-None-Match": tags})
            assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    await transition(client, alert, "resolve")
    response = await client.get(f"/alerts/{alert['id']}", headers={"If-None-Match": tag})
    assert (response.status_code, response.json()["status"]) == (200, "resolved")
