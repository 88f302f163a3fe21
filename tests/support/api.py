"""Requests of the API that many tests send, and checks of its error responses."""

from typing import Any
from uuid import UUID

import httpx

from alerts_service.web.middleware import AlertsApp

SERVICE_KEY = "a-key-for-tests"
UNKNOWN_ALERT_ID = UUID(int=0x0193A7C4D2E87B01A0C1F00D00000001)  # no alert has this id
ALERT_KEYS = [
    "id",
    "tenant_id",
    "rule_name",
    "message",
    "severity",
    "status",
    "created_at",
    "updated_at",
    "acknowledged_at",
    "acknowledgment_note",
    "resolved_at",
    "resolution_note",
]


def alert_body(tenant: UUID, **fields: object) -> dict[str, Any]:
    """Return the body of a valid create request."""
    return {"tenant_id": str(tenant), "rule_name": "missed_call", "message": "Call back", **fields}


async def create_alert(client: httpx.AsyncClient, tenant: UUID, **fields: object) -> dict[str, Any]:
    """Create an alert and return it."""
    response = await client.post("/alerts", json=alert_body(tenant, **fields))
    assert response.status_code == 201, response.text
    alert: dict[str, Any] = response.json()
    return alert


async def transition(
    client: httpx.AsyncClient, alert: dict[str, Any], verb: str, note: str | None = None
) -> httpx.Response:
    """Acknowledge or resolve an alert with a note."""
    return await client.put(f"/alerts/{alert['id']}/{verb}", json={"note": note})


def assert_error(response: httpx.Response, status: int, error: str, detail: str | None = None) -> None:
    """Assert that a response is an ErrorResponse with this status and error, and that its detail contains `detail`."""
    body = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert body.keys() == {"error", "detail"}
    assert body["error"] == error
    assert detail is None or detail in (body["detail"] or ""), body


def client_for(app: AlertsApp) -> httpx.AsyncClient:
    """Return a client that calls an application without a server."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alerts.test")


async def get_history(client: httpx.AsyncClient, alert: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of an alert."""
    response = await client.get(f"/alerts/{alert['id']}/history")
    events: list[dict[str, Any]] = response.json()
    return events


async def get_pages(client: httpx.AsyncClient, path: str) -> list[list[dict[str, Any]]]:
    """Return a page and all that follow it by its `next` links."""
    pages = []
    while path:
        response = await client.get(path)
        assert response.status_code == 200, response.text
        pages.append(response.json())
        path = response.links.get("next", {}).get("url", "")
    return pages


def data_requests(tenant: UUID) -> list[tuple[str, str, object]]:
    """Return the method, path and body of a request to each public route that reads the database."""
    return [
        ("POST", "/alerts", alert_body(tenant)),
        ("GET", f"/alerts?tenant_id={tenant}", None),
        ("GET", f"/alerts/{UNKNOWN_ALERT_ID}", None),
        ("PUT", f"/alerts/{UNKNOWN_ALERT_ID}/acknowledge", None),
        ("PUT", f"/alerts/{UNKNOWN_ALERT_ID}/resolve", None),
        ("GET", f"/stats/{tenant}", None),
    ]
