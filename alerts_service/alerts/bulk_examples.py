"""Examples of the bodies of the bulk operations in the OpenAPI document."""

from typing import Any

from msgspec import Raw

from alerts_service.alerts.structs import ALERT_EXAMPLE, DUPLICATE_EXAMPLE, TRIGGERED_EXAMPLE, Alert
from alerts_service.errors import ErrorResponse
from alerts_service.web.responses import encode

EXAMPLE_TENANT = str(ALERT_EXAMPLE.tenant_id)

CREATE_REQUESTS = [
    {
        "alerts": [
            {
                "tenant_id": EXAMPLE_TENANT,
                "rule_name": "missed_call",
                "message": "Missed call not returned in 15 minutes",
            },
            {
                "tenant_id": EXAMPLE_TENANT,
                "rule_name": "missed_call",
                "message": "Missed call not returned in 30 minutes",
                "severity": "high",
                "dedup_key": "missed_call:+15550100",
            },
        ]
    }
]
TRANSITION_REQUESTS = [
    {"ids": [str(ALERT_EXAMPLE.id)], "note": "Calling the customer back"},
    {
        "filter": {"tenant_id": EXAMPLE_TENANT, "severity": "low", "created_before": "2026-01-05T09:15:00Z"},
        "note": "No need to call back",
        "dry_run": True,
    },
]

_NOT_FOUND = {"status": 404, "error": ErrorResponse("Alert not found", None)}
_INVALID = {"status": 422, "error": ErrorResponse("Validation error", "message: required")}
_BUSY = {
    "status": 503,
    "error": ErrorResponse("Service unavailable", "timed out waiting for the database"),
    "retry_after": 1,
}


def _succeeded(status: int, alert: Alert) -> dict[str, Any]:
    return {"status": status, "alert": alert}


# The examples are encoded, because Litestar omits every null of an example.
CREATE_RESULTS = [
    Raw(encode({"results": [_succeeded(201, TRIGGERED_EXAMPLE), _succeeded(200, DUPLICATE_EXAMPLE), _INVALID, _BUSY]}))
]
TRANSITION_RESULTS = [Raw(encode({"results": [_succeeded(200, ALERT_EXAMPLE), _NOT_FOUND], "more": False}))]
