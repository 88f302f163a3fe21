"""Getting, acknowledging and resolving one alert: forward only, once, and for its own tenant."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.settings import Settings
from tests.support.api import assert_error, create_alert, transition
from tests.support.factories import NoteRequestFactory

pytestmark = pytest.mark.anyio

VERBS = [
    ("acknowledge", "acknowledged", "acknowledged_at", "acknowledgment_note"),
    ("resolve", "resolved", "resolved_at", "resolution_note"),
]


async def test_get_one(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert is found by its id as it was answered when it was recorded."""
    alert = await create_alert(client, tenant)
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


@pytest.mark.parametrize(("verb", "status", "at", "note"), VERBS)
async def test_a_move(client: httpx.AsyncClient, tenant: UUID, verb: str, status: str, at: str, note: str) -> None:
    """A move sets the status, its time and its note, and touches nothing else."""
    alert = await create_alert(client, tenant)
    moved = (await transition(client, alert, verb, "Investigating issue")).json()
    changed = {key for key in alert if moved[key] != alert[key]}
    assert changed == {"status", at, note, "updated_at"}
    assert (moved["status"], moved[note]) == (status, "Investigating issue")
    assert moved[at] == moved["updated_at"] > alert["created_at"]
    assert (await client.get(f"/alerts/{alert['id']}")).json() == moved


async def test_the_whole_way(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An acknowledged alert can be resolved, and keeps when and why it was acknowledged."""
    alert = await create_alert(client, tenant)
    acknowledged = (await transition(client, alert, "acknowledge", "mine")).json()
    resolved = (await transition(client, alert, "resolve", "done")).json()
    assert resolved["status"] == "resolved"
    assert resolved["acknowledged_at"] == acknowledged["acknowledged_at"]
    assert (resolved["acknowledgment_note"], resolved["resolution_note"]) == ("mine", "done")


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"note": null}'])
async def test_the_note_may_be_left_out(client: httpx.AsyncClient, tenant: UUID, verb: str, content: bytes) -> None:
    """No body, an empty object and a null note are the same: no note."""
    alert = await create_alert(client, tenant)
    moved = await client.put(f"/alerts/{alert['id']}/{verb}", content=content)
    assert moved.status_code == 200
    assert moved.json()["acknowledgment_note"] is None
    assert moved.json()["resolution_note"] is None


@pytest.mark.parametrize(("verb", "note"), [(verb, note) for verb, _, _, note in VERBS])
async def test_any_note_is_kept(client: httpx.AsyncClient, tenant: UUID, verb: str, note: str) -> None:
    """Notes of any length and any characters within the limit come back as they were sent."""
    NoteRequestFactory.seed_random(3101)
    for body in NoteRequestFactory.batch(20):
        alert = await create_alert(client, tenant)
        assert (await transition(client, alert, verb, body.note)).json()[note] == body.note


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
@pytest.mark.parametrize("again", ["Same note", None])
async def test_the_same_call_again(client: httpx.AsyncClient, tenant: UUID, verb: str, again: str | None) -> None:
    """The same call again, with the same note or none, is 200 and changes nothing."""
    alert = await create_alert(client, tenant)
    first = await transition(client, alert, verb, "Same note")
    second = await transition(client, alert, verb, again)
    assert (second.status_code, second.json()) == (200, first.json())


@pytest.mark.parametrize(("verb", "status", "at", "_"), VERBS)
async def test_another_note(client: httpx.AsyncClient, tenant: UUID, verb: str, status: str, at: str, _: str) -> None:
    """The same call with another note is a conflict that says where the alert stands and since when."""
    alert = await create_alert(client, tenant)
    moved = (await transition(client, alert, verb, "First")).json()
    response = await transition(client, alert, verb, "Second")
    assert_error(response, 409, "Conflict", f"already {status} at {moved[at].rstrip('Z')}")
    assert (await client.get(f"/alerts/{alert['id']}")).json() == moved


@pytest.mark.parametrize(("verb", "at"), [(verb, at) for verb, _, at, _ in VERBS])
async def test_times_never_go_back(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID, verb: str, at: str
) -> None:
    """An alert that was changed in what the clock now calls the future moves right behind that."""
    alert = await create_alert(client, tenant)
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute("UPDATE alerts SET updated_at = '2999-01-01Z' WHERE id = $1", UUID(alert["id"]))
    await connection.close()
    moved = (await transition(client, alert, verb)).json()
    assert moved[at] == moved["updated_at"] == "2999-01-01T00:00:00.000001+00:00"


async def test_no_way_back(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A resolved alert cannot be acknowledged, not even without a note."""
    alert = await create_alert(client, tenant)
    resolved = (await transition(client, alert, "resolve")).json()
    response = await transition(client, alert, "acknowledge")
    assert_error(response, 409, "Conflict")
    assert response.json()["detail"] == f"already resolved at {resolved['resolved_at']}"
    assert (await client.get(f"/alerts/{alert['id']}")).json() == resolved


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
async def test_of_forty_racing_callers_one_wins(client: httpx.AsyncClient, tenant: UUID, verb: str) -> None:
    """Of forty callers with forty notes at once exactly one is answered 200, and its note is the one that stays."""
    alert = await create_alert(client, tenant)
    answers = await asyncio.gather(*(transition(client, alert, verb, f"caller {number}") for number in range(40)))
    won = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} == {200, 409}
    assert (await client.get(f"/alerts/{alert['id']}")).json() == won[0]


async def test_racing_verbs_end_resolved(client: httpx.AsyncClient, tenant: UUID) -> None:
    """When acknowledging and resolving race, the alert ends resolved and its times are in order."""
    alert = await create_alert(client, tenant)
    verbs = ["acknowledge", "resolve"] * 10
    answers = await asyncio.gather(*(transition(client, alert, verb) for verb in verbs))
    assert {answer.status_code for answer in answers} <= {200, 409}
    found = (await client.get(f"/alerts/{alert['id']}")).json()
    assert found["status"] == "resolved"
    assert found["created_at"] <= (found["acknowledged_at"] or found["created_at"]) <= found["resolved_at"]
    assert found["updated_at"] == found["resolved_at"]


def by_id(alert_id: str) -> list[tuple[str, str]]:
    return [
        ("GET", f"/alerts/{alert_id}"),
        ("PUT", f"/alerts/{alert_id}/acknowledge"),
        ("PUT", f"/alerts/{alert_id}/resolve"),
    ]


async def test_an_unknown_alert(client: httpx.AsyncClient) -> None:
    """An alert that does not exist is 404, "Alert not found", on every by-id route."""
    for method, path in by_id(str(uuid4())):
        response = await client.request(method, path)
        assert_error(response, 404, "Alert not found")


async def test_another_tenants_alert_is_not_there(client: httpx.AsyncClient, tenant: UUID) -> None:
    """With another tenant named, an alert is answered exactly as an unknown one, and nothing moves."""
    alert = await create_alert(client, tenant)
    for (method, path), (_, unknown) in zip(by_id(alert["id"]), by_id(str(uuid4())), strict=True):
        foreign = await client.request(method, path, params={"tenant_id": str(uuid4())})
        missing = await client.request(method, unknown, params={"tenant_id": str(uuid4())})
        assert (
            (foreign.status_code, foreign.content) == (missing.status_code, missing.content) == (404, foreign.content)
        )
    assert (await client.get(f"/alerts/{alert['id']}")).json() == alert


async def test_the_owner_may_name_itself(client: httpx.AsyncClient, tenant: UUID) -> None:
    """With its own tenant named, an alert is found and moved as without."""
    alert: dict[str, Any] = await create_alert(client, tenant)
    for method, path in by_id(alert["id"]):
        response = await client.request(method, path, params={"tenant_id": str(tenant)})
        assert response.status_code == 200
