"""SQL statements on alerts that the single and the bulk routes share, and their parameters."""

from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

from msgspec import Struct
from uuid_utils.compat import uuid7

from alerts_service.alerts.structs import Alert, CreateAlert, CreatedRow, Severity, Status
from alerts_service.db.statements import Statement
from alerts_service.errors import Conflict
from alerts_service.web.requests import Request


class CreateParameters(Struct, frozen=True):
    """Parameters of alerts/create."""

    id: UUID
    tenant_id: UUID
    rule_name: str
    message: str
    severity: Severity
    actor: str
    request_id: str | None


class CreateDeduplicatedParameters(CreateParameters, frozen=True):
    """Parameters of alerts/create_deduplicated."""

    dedup_key: str


class TransitionParameters(Struct, frozen=True):
    """Parameters of alerts/acknowledge and alerts/resolve. If `tenant_id` is None, the alert may be of any tenant."""

    id: UUID
    tenant_id: UUID | None
    note: str | None
    if_match: str | None
    actor: str
    request_id: str | None


class AlertTenant(Struct, frozen=True):
    """The tenant of an alert."""

    tenant_id: UUID


CREATE = Statement("alerts/create", CreatedRow, parameters=CreateParameters)
CREATE_DEDUPLICATED = Statement("alerts/create_deduplicated", Alert, parameters=CreateDeduplicatedParameters)
GET = Statement("alerts/get", Alert)
GET_TENANT = Statement("alerts/get_tenant", AlertTenant)
TRANSITIONS: dict[Status, Statement[Alert]] = {
    "acknowledged": Statement("alerts/acknowledge", Alert, parameters=TransitionParameters),
    "resolved": Statement("alerts/resolve", Alert, parameters=TransitionParameters),
}


def create_parameters(request: Request, alert: CreateAlert) -> CreateParameters:
    """Return the SQL parameters of a create, with a new id. With a `dedup_key`: CreateDeduplicatedParameters."""
    if alert.dedup_key is None:
        return CreateParameters(
            id=uuid7(),
            tenant_id=alert.tenant_id,
            rule_name=alert.rule_name,
            message=alert.message,
            severity=alert.severity,
            actor=request.actor,
            request_id=request.id,
        )
    return CreateDeduplicatedParameters(
        id=uuid7(),
        tenant_id=alert.tenant_id,
        rule_name=alert.rule_name,
        message=alert.message,
        severity=alert.severity,
        actor=request.actor,
        request_id=request.id,
        dedup_key=alert.dedup_key,
    )


def to_alert(parameters: CreateParameters, created: CreatedRow) -> Alert:
    """Return a new alert, from the parameters and the row of alerts/create."""
    return Alert(
        id=parameters.id,
        tenant_id=parameters.tenant_id,
        rule_name=parameters.rule_name,
        message=parameters.message,
        severity=parameters.severity,
        status="triggered",
        created_at=created.created_at,
        updated_at=created.created_at,
        acknowledged_at=None,
        acknowledgment_note=None,
        resolved_at=None,
        resolution_note=None,
    )


def transition_parameters(
    request: Request, alert_id: UUID, tenant_id: UUID | None, *, note: str | None, if_match: str | None = None
) -> TransitionParameters:
    """Return the parameters of a status transition.

    `if_match` contains quoted entity tags: the alert changes only if its entity tag is one of them.
    """
    return TransitionParameters(
        id=alert_id, tenant_id=tenant_id, note=note, if_match=if_match, actor=request.actor, request_id=request.id
    )


async def find_tenant(request: Request, ids: Sequence[UUID]) -> UUID | None:
    """Return the tenant of the first of these alerts that exists, or None if no alert exists."""
    if not ids:
        return None
    # The first alert usually exists, and its lookup is batched with the lookups of other requests.
    first = await request.database.one_or_none(GET_TENANT, id=ids[0])
    if first is not None:
        return first.tenant_id
    others = [{"id": id_} for id_ in dict.fromkeys(ids[1:])]
    for tenant_id in await request.database.many(GET_TENANT, others, attrgetter("tenant_id")):
        if isinstance(tenant_id, Exception):
            raise tenant_id
        if isinstance(tenant_id, UUID):
            return tenant_id
    return None


def ensure_in_state(alert: Alert, to: Status, note: str | None) -> Alert:
    """Return an alert that a transition did not change if the alert already has the status `to`.

    Raises:
        Conflict: The alert has another status. Or `note` is not None, and the alert has another note.
    """
    since = alert.resolved_at or alert.acknowledged_at or alert.created_at
    if alert.status != to:
        raise Conflict(f"already {alert.status} at {since}")
    stored_note = alert.resolution_note if to == "resolved" else alert.acknowledgment_note
    if note not in (None, stored_note):
        raise Conflict(f"already {alert.status} at {since} with another note; the note cannot be changed")
    return alert
