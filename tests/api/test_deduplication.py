"""Deduplication: an open alert counts the further creates with its `dedup_key` as occurrences."""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.db.queries import load_queries
from alerts_service.settings import Settings
from tests.support.api import (
    ALERT_KEYS,
    SERVICE_KEY,
    alert_body,
    assert_error,
    create_alert,
    get_history,
    get_pages,
    transition,
)
from tests.support.deduplication import DEDUP_FIELDS, assert_consistent, get_event_summaries, list_alerts, post_alert

pytestmark = pytest.mark.anyio


async def test_a_duplicate_returns_the_open_alert_with_another_occurrence(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    first = await post_alert(client, tenant, message="one", rule_name="first")
    second = await post_alert(client, tenant, message="two", rule_name="second")
    assert (first.status_code, second.status_code) == (201, 200)
    created, merged = first.json(), second.json()
    assert list(created) == list(merged) == ALERT_KEYS + DEDUP_FIELDS
    assert created["occurrences"] == 1
    assert created["first_seen_at"] == created["last_seen_at"] == created["created_at"] == created["updated_at"]
    assert merged["updated_at"] == merged["last_seen_at"] > created["last_seen_at"]
    changes = {"occurrences": 2, "updated_at": merged["updated_at"], "last_seen_at": merged["last_seen_at"]}
    assert merged == {**created, **changes}
    assert [response.headers["etag"] for response in (first, second)] == [
        f'"{alert["updated_at"]}"' for alert in (created, merged)
    ]
    assert await get_event_summaries(client, created) == [
        ("created", None, "triggered", None),
        ("repeated", "triggered", "triggered", "two"),
    ]


async def test_every_operation_returns_the_same_keys_of_an_alert(client: httpx.AsyncClient, tenant: UUID) -> None:
    """An alert without a `dedup_key` has the twelve specified keys. Create, get and list return the same bytes."""
    plain = await create_alert(client, tenant)
    dedup_key = 'missed "call"\\ é💥,"dedup_key":null}]'
    deduplicated = await post_alert(client, tenant, dedup_key)
    last = await post_alert(client, tenant, None)
    assert (await client.get(f"/alerts/{deduplicated.json()['id']}")).content == deduplicated.content
    page = await client.get("/alerts", params={"tenant_id": str(tenant)})
    keys_of_page = [ALERT_KEYS, ALERT_KEYS + DEDUP_FIELDS, ALERT_KEYS]
    assert [list(alert) for alert in page.json()] == keys_of_page
    first = await client.get(f"/alerts/{plain['id']}")
    assert page.content == b"[" + b",".join((last.content, deduplicated.content, first.content)) + b"]"
    for filters in ({"status": "triggered"}, {"severity": "medium"}):
        assert (await list_alerts(client, tenant, **filters)) == page.json()
    for verb in ("acknowledge", "resolve"):
        transitioned = (await transition(client, deduplicated.json(), verb)).json()
        assert list(transitioned) == ALERT_KEYS + DEDUP_FIELDS
        assert [transitioned[name] for name in DEDUP_FIELDS] == [deduplicated.json()[name] for name in DEDUP_FIELDS]
        assert list((await transition(client, plain, verb)).json()) == ALERT_KEYS
    assert [list(alert) for alert in await list_alerts(client, tenant)] == keys_of_page


@pytest.mark.parametrize("count", [50, 51, 101])
async def test_pages_hold_alerts_with_and_without_a_dedup_key_once(
    client: httpx.AsyncClient, tenant: UUID, count: int
) -> None:
    created = [(await post_alert(client, tenant, str(n) if n % 3 else None)).json() for n in range(count)]
    pages = await get_pages(client, f"/alerts?tenant_id={tenant}")
    assert [alert for page in pages for alert in page] == created[::-1]


async def test_duplicates_in_one_batch_are_merged_in_order(
    settings: Settings, client: httpx.AsyncClient, tenant: UUID
) -> None:
    """All duplicates of a batch return the alert as the last one left it."""
    other_tenant = uuid4()
    acknowledged = (await post_alert(client, other_tenant, severity="medium")).json()
    await transition(client, acknowledged, "acknowledge", "on it")
    items = [
        (uuid4(), tenant_id, severity)
        for severity in ("low", "low", "high", "medium", "high", "critical")
        for tenant_id in (tenant, other_tenant)
    ]
    ids, tenant_ids, severities = zip(*items, strict=True)
    messages = [f"{number}" for number in range(12)]
    connection = await asyncpg.connect(settings.database_url)
    rows = await connection.fetch(
        load_queries()["alerts/create_deduplicated"].sql,
        *(ids, tenant_ids, ["r"] * 12, messages, severities, ["k"] * 12, ["anonymous"] * 12, [None] * 12),
    )
    await connection.close()
    assert sorted(row["batch_index"] for row in rows) == list(range(1, 13))
    for tenant_id, occurrences in ((tenant, 6), (other_tenant, 7)):
        (alert,) = await assert_consistent(client, tenant_id)
        rows_of_tenant = [tuple(row.values())[1:] for row in rows if row["tenant_id"] == tenant_id]
        assert rows_of_tenant == [tuple(_with_uuids(alert).values())] * 6
        assert (alert["severity"], alert["status"], alert["occurrences"]) == ("critical", "triggered", occurrences)
    (created,) = await list_alerts(client, tenant)
    assert (created["id"], created["message"]) == (str(ids[0]), "0")
    assert await get_event_summaries(client, created) == [
        ("created", None, "triggered", None),
        ("repeated", "triggered", "triggered", "2"),
        ("escalated", "triggered", "triggered", "4"),
        ("repeated", "triggered", "triggered", "6"),
        ("repeated", "triggered", "triggered", "8"),
        ("escalated", "triggered", "triggered", "10"),
    ]
    assert (await get_event_summaries(client, acknowledged))[2:] == [
        ("repeated", "acknowledged", "acknowledged", "1"),
        ("repeated", "acknowledged", "acknowledged", "3"),
        ("escalated", "acknowledged", "triggered", "5"),
        ("repeated", "triggered", "triggered", "7"),
        ("repeated", "triggered", "triggered", "9"),
        ("escalated", "triggered", "triggered", "11"),
    ]


def _with_uuids(alert: dict[str, Any]) -> dict[str, Any]:
    return {**alert, "id": UUID(alert["id"]), "tenant_id": UUID(alert["tenant_id"])}


async def test_a_duplicate_raises_the_severity_but_never_lowers_it(client: httpx.AsyncClient, tenant: UUID) -> None:
    severities = ("medium", "low", "high", "high", "medium", "critical", "low")
    alerts = [(await post_alert(client, tenant, severity=severity)).json() for severity in severities]
    assert [alert["severity"] for alert in alerts] == [*["medium"] * 2, *["high"] * 3, *["critical"] * 2]
    assert [event_type for event_type, *_ in await get_event_summaries(client, alerts[0])] == [
        *("created", "repeated", "escalated", "repeated", "repeated", "escalated", "repeated")
    ]
    assert (await list_alerts(client, tenant, severity="critical")) == alerts[-1:]
    assert (await list_alerts(client, tenant, severity="medium")) == []


async def test_a_duplicate_of_no_higher_severity_keeps_the_acknowledgment(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    alert = (await post_alert(client, tenant, severity="high")).json()
    acknowledged = (await transition(client, alert, "acknowledge", "on it")).json()
    assert acknowledged["occurrences"] == 1
    for severity in ("high", "low"):
        duplicate = (await post_alert(client, tenant, severity=severity)).json()
        assert duplicate["status"] == "acknowledged"
        for name in ("severity", "acknowledged_at", "acknowledgment_note"):
            assert duplicate[name] == acknowledged[name]
    await assert_consistent(client, tenant)


async def test_a_duplicate_of_higher_severity_triggers_an_acknowledged_alert_again(
    client: httpx.AsyncClient, tenant: UUID
) -> None:
    alert = (await post_alert(client, tenant, severity="low", message="first")).json()
    await transition(client, alert, "acknowledge", "on it")
    escalated = (await post_alert(client, tenant, severity="high", message="worse")).json()
    assert escalated["status"] == "triggered"
    assert (escalated["acknowledged_at"], escalated["acknowledgment_note"]) == (None, None)
    assert (escalated["severity"], escalated["message"], escalated["occurrences"]) == ("high", "first", 2)
    await assert_consistent(client, tenant)
    assert (await transition(client, alert, "acknowledge", "on it again")).status_code == 200
    assert (await transition(client, alert, "resolve")).status_code == 200
    assert await get_event_summaries(client, alert) == [
        ("created", None, "triggered", None),
        ("acknowledged", "triggered", "acknowledged", "on it"),
        ("escalated", "acknowledged", "triggered", "worse"),
        ("acknowledged", "triggered", "acknowledged", "on it again"),
        ("resolved", "acknowledged", "resolved", None),
    ]
    await assert_consistent(client, tenant)


async def test_the_dedup_key_of_a_resolved_alert_can_be_used_again(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The resolved alert remains unchanged."""
    first = (await post_alert(client, tenant)).json()
    resolved = (await transition(client, first, "resolve")).json()
    second = await post_alert(client, tenant)
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]
    assert second.json()["occurrences"] == 1
    assert await assert_consistent(client, tenant) == [second.json(), resolved]


@pytest.mark.parametrize(
    ("key", "other_key"),
    [("key", "Key"), ("key", "key "), ("é", "e\u0301"), ("%", "_")],
    ids=["case", "trailing space", "Unicode normalization", "wildcards of LIKE"],
)
async def test_dedup_keys_are_compared_exactly(
    client: httpx.AsyncClient, tenant: UUID, key: str, other_key: str
) -> None:
    responses = [await post_alert(client, tenant, each) for each in (key, other_key, key)]
    assert [response.status_code for response in responses] == [201, 201, 200]
    assert [response.json()["dedup_key"] for response in responses] == [key, other_key, key]


async def test_the_same_dedup_key_of_two_tenants_makes_two_alerts(client: httpx.AsyncClient, tenant: UUID) -> None:
    responses = [await post_alert(client, tenant), await post_alert(client, uuid4())]
    assert [response.status_code for response in responses] == [201, 201]


async def test_alerts_without_a_dedup_key_are_never_merged(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The key may be omitted or null."""
    responses = [await post_alert(client, tenant, None), await post_alert(client, tenant, None)]
    responses.append(await client.post("/alerts", json=alert_body(tenant)))
    assert [response.status_code for response in responses] == [201] * 3
    assert len(await list_alerts(client, tenant)) == 3


async def test_the_internal_route_counts_a_duplicate_of_a_public_alert(client: httpx.AsyncClient, tenant: UUID) -> None:
    """The actor of the event is the service."""
    first = (await post_alert(client, tenant)).json()
    headers = {"x-service-key": SERVICE_KEY, "x-request-id": "internal-request"}
    second = await client.post("/internal/alerts", json=alert_body(tenant, dedup_key="k"), headers=headers)
    assert (second.status_code, second.json()["id"], second.json()["occurrences"]) == (200, first["id"], 2)
    event = (await get_history(client, first))[1]
    assert (event["actor"], event["request_id"]) == ("service", "internal-request")


@pytest.mark.parametrize("dedup_key", ["", "x" * 256, "\0", "a\0b", 5, ["k"]])
async def test_an_invalid_dedup_key_is_rejected(client: httpx.AsyncClient, tenant: UUID, dedup_key: Any) -> None:
    assert_error(await post_alert(client, tenant, dedup_key), 422, "Validation error", "dedup_key: ")
    assert await list_alerts(client, tenant) == []


@pytest.mark.parametrize("dedup_key", ["x", "é" * 255, "💥" * 255])
async def test_a_dedup_key_has_1_to_255_characters(client: httpx.AsyncClient, tenant: UUID, dedup_key: str) -> None:
    assert [(await post_alert(client, tenant, dedup_key)).status_code for _ in range(2)] == [201, 200]


async def test_a_duplicate_changes_the_etag(client: httpx.AsyncClient, tenant: UUID) -> None:
    """A transition with the ETag of the first occurrence is rejected."""
    first = await post_alert(client, tenant)
    second = await post_alert(client, tenant)
    path = f"/alerts/{first.json()['id']}/acknowledge"
    rejected = await client.put(path, headers={"If-Match": first.headers["etag"]})
    assert_error(rejected, 412, "Precondition failed", second.json()["updated_at"])
    assert (await client.put(path, headers={"If-Match": second.headers["etag"]})).status_code == 200
