"""Alerts with a `dedup_key`, and the agreement of an alert with its history and counts."""

from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx

from tests.support.api import alert_body, get_history, get_pages

DEDUP_FIELDS = ["dedup_key", "occurrences", "first_seen_at", "last_seen_at"]


async def post_alert(
    client: httpx.AsyncClient, tenant: UUID, dedup_key: str | None = "k", **fields: object
) -> httpx.Response:
    return await client.post("/alerts", json=alert_body(tenant, dedup_key=dedup_key, **fields))


async def list_alerts(client: httpx.AsyncClient, tenant: UUID, **filters: str) -> list[dict[str, Any]]:
    response = await client.get("/alerts", params={"tenant_id": str(tenant), **filters})
    alerts: list[dict[str, Any]] = response.json()
    return alerts


async def get_event_summaries(
    client: httpx.AsyncClient, alert: dict[str, Any]
) -> list[tuple[str, str | None, str, str | None]]:
    """Return the type, the two statuses and the note of each event of an alert."""
    events = await get_history(client, alert)
    assert_numbered(events)
    return [(event["type"], event["from_status"], event["to_status"], event["note"]) for event in events]


def assert_numbered(events: list[dict[str, Any]]) -> None:
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))


async def assert_consistent(client: httpx.AsyncClient, tenant: UUID) -> list[dict[str, Any]]:
    """Check that each alert agrees with its events, and the statistics with the alerts. Return the alerts."""
    alerts = await list_alerts(client, tenant)
    for alert in alerts:
        events = [event for page in await get_pages(client, f"/alerts/{alert['id']}/history") for event in page]
        assert_numbered(events)
        assert [event["type"] for event in events].count("created") == 1
        assert all(event["from_status"] == previous["to_status"] for previous, event in pairwise(events))
        assert events[-1]["to_status"] == alert["status"]
        occurrences = [event for event in events if event["type"] in {"created", "repeated", "escalated"}]
        assert alert.get("occurrences", 1) == len(occurrences)
    statuses = [alert["status"] for alert in alerts]
    assert (await client.get(f"/stats/{tenant}")).json() == {
        "total": len(alerts),
        **{status: statuses.count(status) for status in ("triggered", "acknowledged", "resolved")},
    }
    return alerts
