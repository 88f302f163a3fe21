"""Calls of the bulk operations."""

from typing import Any

import httpx

BULK_ROUTES = [
    f"{prefix}/alerts/bulk{suffix}" for prefix in ("", "/internal") for suffix in ("", "/acknowledge", "/resolve")
]
BULK_TRANSITION_ROUTES = [route for route in BULK_ROUTES if not route.endswith("bulk")]


async def bulk_create(client: httpx.AsyncClient, *items: object, **headers: str) -> list[dict[str, Any]]:
    """Create alerts and return the result of each item."""
    response = await client.post("/alerts/bulk", json={"alerts": items}, headers=headers)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


async def bulk_transition(client: httpx.AsyncClient, verb: str, query: str = "", **body: object) -> dict[str, Any]:
    """Transition alerts and return the body of the response."""
    response = await client.post(f"/alerts/bulk/{verb}{query}", json=body)
    assert response.status_code == 200, response.text
    decoded: dict[str, Any] = response.json()
    return decoded


def result_statuses(results: list[dict[str, Any]]) -> list[int]:
    return [result["status"] for result in results]
