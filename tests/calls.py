"""The calls that many tests make on the way to what they are about."""

from typing import Any
from uuid import UUID

import httpx


async def create(client: httpx.AsyncClient, tenant: UUID, **fields: object) -> dict[str, Any]:
    body = {"tenant_id": str(tenant), "rule_name": "missed_call", "message": "Call back", **fields}
    response = await client.post("/alerts", json=body)
    assert response.status_code == 201, response.text
    alert: dict[str, Any] = response.json()
    return alert


async def move(client: httpx.AsyncClient, alert: dict[str, Any], verb: str, note: str | None = None) -> httpx.Response:
    return await client.put(f"/alerts/{alert['id']}/{verb}", json={"note": note})


def assert_error(response: httpx.Response, status: int, error: str, detail: str | None = None) -> None:
    """The answer is an ErrorResponse of this status, whose detail holds `detail`."""
    body = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert body.keys() == {"error", "detail"}
    assert body["error"] == error
    assert detail is None or detail in (body["detail"] or ""), body
