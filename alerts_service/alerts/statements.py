"""What the database is asked to do to alerts, whether one route asks for one or another for many."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from msgspec import Struct
from uuid_utils.compat import uuid7

from alerts_service.alerts.structs import Alert, CreateAlert, Created, Status
from alerts_service.db.database import Statement
from alerts_service.errors import Conflict
from alerts_service.web.requests import Request


class Tenant(Struct, frozen=True):
    """Whose an alert is."""

    tenant_id: UUID


CREATE = Statement("alerts/create", Created)
CREATE_DEDUPLICATED = Statement("alerts/create_deduplicated", Alert)
GET = Statement("alerts/get", Alert)
GET_TENANT = Statement("alerts/get_tenant", Tenant)
TRANSITIONS: dict[Status, Statement[Alert]] = {
    "acknowledged": Statement("alerts/acknowledge", Alert),
    "resolved": Statement("alerts/resolve", Alert),
}


def create_parameters(request: Request, alert: CreateAlert) -> dict[str, Any]:
    """Make the call that records an alert for this request."""
    call = {
        "id": uuid7(),
        "tenant_id": alert.tenant_id,
        "rule_name": alert.rule_name,
        "message": alert.message,
        "severity": alert.severity,
        "actor": request.actor,
        "request_id": request.id,
    }
    return call if alert.dedup_key is None else {**call, "dedup_key": alert.dedup_key}


def created(call: dict[str, Any], recorded: Created) -> Alert:
    """Put together the alert that a call has recorded."""
    return Alert(
        id=call["id"],
        tenant_id=call["tenant_id"],
        rule_name=call["rule_name"],
        message=call["message"],
        severity=call["severity"],
        status="triggered",
        created_at=recorded.created_at,
        updated_at=recorded.created_at,
        acknowledged_at=None,
        acknowledgment_note=None,
        resolved_at=None,
        resolution_note=None,
    )


def move(
    request: Request, alert_id: UUID, tenant_id: UUID | None, *, note: str | None, if_match: str | None = None
) -> dict[str, Any]:
    """Make the call that moves an alert on for this request."""
    return {
        "id": alert_id,
        "tenant_id": tenant_id,
        "note": note,
        "if_match": if_match,
        "actor": request.actor,
        "request_id": request.id,
    }


async def find_tenant(request: Request, ids: Sequence[UUID]) -> UUID | None:
    """Find the tenant of the first of these alerts that exists."""
    if not ids:
        return None
    # The first usually exists, and its lookup shares a statement with those of other requests.
    first = await request.database.one_or_none(GET_TENANT, id=ids[0])
    if first is not None:
        return first.tenant_id
    others = [{"id": id_} for id_ in dict.fromkeys(ids[1:])]
    for tenant_id in await request.database.many(GET_TENANT, others, attrgetter("tenant_id")):
        if isinstance(tenant_id, Exception):
            raise tenant_id
        if tenant_id is not None:
            found: UUID = tenant_id
            return found
    return None


def ensure_in_state(alert: Alert, to: Status, note: str | None) -> Alert:
    """Return an alert that did not move if it stands where it was to go.

    Raises:
        Conflict: it stands elsewhere, or with another note.
    """
    said = alert.resolution_note if to == "resolved" else alert.acknowledgment_note
    if alert.status == to and note in (None, said):
        return alert
    raise Conflict(_stand(alert))


def _stand(alert: Alert) -> str:
    """Say where the alert stands, for a caller that wanted it elsewhere or with another note."""
    since = alert.resolved_at or alert.acknowledged_at or alert.created_at
    return f"the alert is {alert.status} since {since}, and its note stays as it is"
