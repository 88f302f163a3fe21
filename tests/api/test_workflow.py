"""Status transitions of one alert: forward only, idempotent, and for its own tenant."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest

from alerts_service.db.pool import Connection
from tests.support.api import assert_error, create_alert, transition
from tests.support.factories import NoteRequestFactory

pytestmark = pytest.mark.anyio

# The verb in the path, the status that it leads to, and the fields that it sets.
TRANSITIONS = [
    ("acknowledge", "acknowledged", "acknowledged_at", "acknowledgment_note"),
    ("resolve", "resolved", "resolved_at", "resolution_note"),
]


async def test_an_alert_is_returned_as_it_was_created(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


@pytest.mark.parametrize(("verb", "status", "at", "note"), TRANSITIONS)
async def test_a_transition_sets_status_time_and_note_only(
    client: httpx.AsyncClient, tenant: UUID, verb: str, status: str, at: str, note: str
) -> None:
    alert = await create_alert(client, tenant)
    updated = (await transition(client, alert, verb, "Investigating issue")).json()
    changed_fields = {key for key in alert if updated[key] != alert[key]}
    assert changed_fields == {"status", at, note, "updated_at"}
    assert (updated["status"], updated[note]) == (status, "Investigating issue")
    assert updated[at] == updated["updated_at"] > alert["created_at"]
    assert (await client.get(f"/alerts/{alert['id']}")).json() == updated


async def test_a_resolved_alert_keeps_time_and_note_of_its_acknowledgment(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    alert = await create_alert(client, tenant)
    acknowledged = (await transition(client, alert, "acknowledge", "mine")).json()
    resolved = (await transition(client, alert, "resolve", "done")).json()
    assert resolved["status"] == "resolved"
    assert resolved["acknowledged_at"] == acknowledged["acknowledged_at"]
    assert (resolved["acknowledgment_note"], resolved["resolution_note"]) == ("mine", "done")


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"note": null}'])
async def test_the_note_is_optional(client: httpx.AsyncClient, tenant: UUID, verb: str, content: bytes) -> None:
    alert = await create_alert(client, tenant)
    response = await client.put(f"/alerts/{alert['id']}/{verb}", content=content)
    assert response.status_code == 200
    assert response.json()["status"] != "triggered"
    assert response.json()["acknowledgment_note"] is None
    assert response.json()["resolution_note"] is None


@pytest.mark.parametrize(("verb", "note"), [(verb, note) for verb, _, _, note in TRANSITIONS])
async def test_a_note_is_stored_unchanged(client: httpx.AsyncClient, tenant: UUID, verb: str, note: str) -> None:
    """Random notes: any characters, and any length within the limit."""
    NoteRequestFactory.seed_random(3101)
    for body in NoteRequestFactory.batch(20):
        alert = await create_alert(client, tenant)
        assert (await transition(client, alert, verb, body.note)).json()[note] == body.note


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("second_note", ["Same note", None])
async def test_a_transition_twice_with_the_same_note_or_none_is_idempotent(
    client: httpx.AsyncClient, tenant: UUID, verb: str, second_note: str | None
) -> None:
    alert = await create_alert(client, tenant)
    first = await transition(client, alert, verb, "Same note")
    second = await transition(client, alert, verb, second_note)
    assert (second.status_code, second.json()) == (200, first.json())


@pytest.mark.parametrize(("verb", "status", "at", "_"), TRANSITIONS)
async def test_a_transition_twice_with_different_notes_is_a_conflict(
    client: httpx.AsyncClient, tenant: UUID, verb: str, status: str, at: str, _: str
) -> None:
    """The detail holds the present status and the time of its transition."""
    alert = await create_alert(client, tenant)
    first = (await transition(client, alert, verb, "First")).json()
    second = await transition(client, alert, verb, "Second")
    assert_error(second, 409, "Conflict", f"already {status} at {first[at]}")
    assert (await client.get(f"/alerts/{alert['id']}")).json() == first


@pytest.mark.parametrize(("verb", "at"), [(verb, at) for verb, _, at, _ in TRANSITIONS])
async def test_times_increase_when_the_clock_goes_back(
    client: httpx.AsyncClient, connection: Connection, tenant: UUID, verb: str, at: str
) -> None:
    """If the last update lies in the future, the transition is one microsecond later."""
    alert = await create_alert(client, tenant)
    await connection.execute("UPDATE alerts SET updated_at = '2999-01-01Z' WHERE id = $1", UUID(alert["id"]))
    updated = (await transition(client, alert, verb)).json()
    assert updated[at] == updated["updated_at"] == "2999-01-01T00:00:00.000001+00:00"


async def test_acknowledging_a_resolved_alert_is_a_conflict(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    resolved = (await transition(client, alert, "resolve")).json()
    response = await transition(client, alert, "acknowledge")
    assert_error(response, 409, "Conflict")
    assert response.json()["detail"] == f"already resolved at {resolved['resolved_at']}"
    assert (await client.get(f"/alerts/{alert['id']}")).json() == resolved


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
async def test_exactly_one_of_forty_concurrent_transitions_succeeds(
    client: httpx.AsyncClient, tenant: UUID, verb: str
) -> None:
    """Each transition has its own note. The stored note is that of the successful one."""
    alert = await create_alert(client, tenant)
    responses = await asyncio.gather(*(transition(client, alert, verb, f"client {number}") for number in range(40)))
    (winner,) = (response.json() for response in responses if response.status_code == 200)
    assert {response.status_code for response in responses} == {200, 409}
    assert (await client.get(f"/alerts/{alert['id']}")).json() == winner


async def test_concurrent_acknowledging_and_resolving_ends_resolved(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    verbs = ["acknowledge", "resolve"] * 10
    responses = await asyncio.gather(*(transition(client, alert, verb) for verb in verbs))
    assert {response.status_code for response in responses} <= {200, 409}
    stored = (await client.get(f"/alerts/{alert['id']}")).json()
    assert stored["status"] == "resolved"
    assert stored["created_at"] <= (stored["acknowledged_at"] or stored["created_at"]) <= stored["resolved_at"]
    assert stored["updated_at"] == stored["resolved_at"]


def requests_by_id(alert_id: str) -> list[tuple[str, str]]:
    return [
        ("GET", f"/alerts/{alert_id}"),
        ("PUT", f"/alerts/{alert_id}/acknowledge"),
        ("PUT", f"/alerts/{alert_id}/resolve"),
    ]


async def test_an_alert_that_does_not_exist_is_404(client: httpx.AsyncClient) -> None:
    for method, path in requests_by_id(str(uuid4())):
        response = await client.request(method, path)
        assert_error(response, 404, "Alert not found")


async def test_with_another_tenant_id_an_alert_does_not_exist(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The response equals that for an unknown alert, and the alert is not changed."""
    alert = await create_alert(client, tenant)
    unknown_requests = requests_by_id(str(uuid4()))
    for (method, path), (_, unknown_path) in zip(requests_by_id(alert["id"]), unknown_requests, strict=True):
        foreign = await client.request(method, path, params={"tenant_id": str(uuid4())})
        unknown = await client.request(method, unknown_path, params={"tenant_id": str(uuid4())})
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.content == unknown.content
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_with_its_own_tenant_id_an_alert_is_accessible(client: httpx.AsyncClient, tenant: UUID) -> None:
    alert = await create_alert(client, tenant)
    for method, path in requests_by_id(alert["id"]):
        response = await client.request(method, path, params={"tenant_id": str(tenant)})
        assert response.status_code == 200
