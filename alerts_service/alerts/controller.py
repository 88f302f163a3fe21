"""The alert routes: recording, finding, acknowledging, resolving."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Raw
from uuid_utils.compat import uuid7

from alerts_service.alerts import cursor as cursors
from alerts_service.alerts.structs import Alert, CreateAlert, NoteRequest, Page, Recorded, Severity, Status
from alerts_service.database import Database, Statement
from alerts_service.errors import AlertNotFound, Conflict, Forbidden
from alerts_service.openapi import NEXT_PAGE, errors
from alerts_service.requests import Request
from alerts_service.responses import JSONResponse

NO_NOTE = NoteRequest()

CREATE = Statement("alerts/create", Recorded)
GET = Statement("alerts/get", Alert)
LIST = Statement("alerts/list", Page)
ACKNOWLEDGE = Statement("alerts/acknowledge", Alert)
RESOLVE = Statement("alerts/resolve", Alert)

AlertId = Annotated[UUID, PathParameter(description="The id that the alert got when it was recorded.")]
Owner = Annotated[
    UUID | None,
    QueryParameter(description="When given, the alert must be this tenant's; any other is answered with 404."),
]


class AlertsController(Controller):
    """What everybody may call."""

    path = "/alerts"
    tags = ("alerts",)

    @post(
        summary="Record an alert",
        response_description="The alert, recorded",
        responses=errors(401, 403, 413, 415, 422, 429, 500, 503),
    )
    async def create_alert(self, request: Request, data: JSONBody[CreateAlert]) -> Alert:
        """The alert is committed when this answers 201."""
        if request.admit(data.tenant_id) != data.tenant_id:
            raise Forbidden("tenant_id: must be the token's own tenant")
        return await _create(request.database, data)

    @get(
        summary="List a tenant's alerts",
        response_description="One page of alerts",
        responses=errors(401, 422, 429, 500, 503),
        response_headers=[NEXT_PAGE],
    )
    async def list_alerts(
        self,
        request: Request,
        tenant_id: Annotated[UUID, QueryParameter(description="The tenant whose alerts to list.")],
        status: Annotated[Status | None, QueryParameter(description="Only alerts in this status.")] = None,
        severity: Annotated[Severity | None, QueryParameter(description="Only alerts of this severity.")] = None,
        cursor: Annotated[str | None, QueryParameter(description="Where to go on: from a `Link` header.")] = None,
    ) -> Response[list[Alert]]:
        """Newest first, 50 at most. While there are more, a `Link` header with `rel="next"` names the next page."""
        created_at, id_ = cursors.decode(cursor) if cursor is not None else (None, None)
        page = await request.database.one(
            LIST,
            tenant_id=request.admit(tenant_id),
            status=status,
            severity=severity,
            before_created_at=created_at,
            before_id=id_,
        )
        alerts = Raw(page.alerts.encode())
        if page.last_created_at is None or page.last_id is None:
            return JSONResponse[Any](alerts)
        filters = (f"&status={status}" if status else "") + (f"&severity={severity}" if severity else "")
        following = cursors.encode(page.last_created_at, page.last_id)
        target = (
            f"{request.scope['root_path']}{request.scope['path']}?tenant_id={tenant_id}{filters}&cursor={following}"
        )
        return JSONResponse[Any](alerts, headers={"Link": f'<{target}>; rel="next"'})

    @get(
        "/{alert_id:str}",
        summary="Get one alert",
        response_description="The alert",
        responses=errors(401, 404, 422, 429, 500, 503),
    )
    async def get_alert(self, request: Request, alert_id: AlertId, tenant_id: Owner = None) -> Alert:
        """The alert as it stands now."""
        return await _get(request.database, alert_id, request.admit(tenant_id))

    @put(
        "/{alert_id:str}/acknowledge",
        summary="Acknowledge an alert",
        response_description="The alert, acknowledged",
        responses=errors(401, 404, 409, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_alert(
        self, request: Request, alert_id: AlertId, data: JSONBody[NoteRequest] = NO_NOTE, tenant_id: Owner = None
    ) -> Alert:
        """From `triggered`. The same call again changes nothing and answers 200; with another note it is a conflict."""
        tenant_id = request.admit(tenant_id)
        changed = await request.database.one_or_none(ACKNOWLEDGE, id=alert_id, tenant_id=tenant_id, note=data.note)
        if changed is not None:
            return changed
        alert = await _get(request.database, alert_id, tenant_id)
        if alert.status == "acknowledged" and data.note in (None, alert.acknowledgment_note):
            return alert
        raise Conflict(_stand(alert))

    @put(
        "/{alert_id:str}/resolve",
        summary="Resolve an alert",
        response_description="The alert, resolved",
        responses=errors(401, 404, 409, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_alert(
        self, request: Request, alert_id: AlertId, data: JSONBody[NoteRequest] = NO_NOTE, tenant_id: Owner = None
    ) -> Alert:
        """From `triggered` or `acknowledged`. The same call again answers 200; with another note it is a conflict."""
        tenant_id = request.admit(tenant_id)
        changed = await request.database.one_or_none(RESOLVE, id=alert_id, tenant_id=tenant_id, note=data.note)
        if changed is not None:
            return changed
        alert = await _get(request.database, alert_id, tenant_id)
        if alert.status == "resolved" and data.note in (None, alert.resolution_note):
            return alert
        raise Conflict(_stand(alert))


class InternalAlertsController(Controller):
    """What only our own services may call: mount it behind the service key."""

    path = "/alerts"
    tags = ("internal",)

    @post(
        summary="Record an alert, as a service",
        response_description="The alert, recorded",
        responses=errors(401, 413, 415, 422, 429, 500, 503),
    )
    async def create_internal_alert(self, request: Request, data: JSONBody[CreateAlert]) -> Alert:
        """As `POST /alerts`, for callers that hold the internal service key."""
        return await _create(request.database, data)


async def _create(database: Database, alert: CreateAlert) -> Alert:
    id_ = uuid7()
    recorded = await database.one(
        CREATE,
        id=id_,
        tenant_id=alert.tenant_id,
        rule_name=alert.rule_name,
        message=alert.message,
        severity=alert.severity,
    )
    return Alert(
        id=id_,
        tenant_id=alert.tenant_id,
        rule_name=alert.rule_name,
        message=alert.message,
        severity=alert.severity,
        status="triggered",
        created_at=recorded.created_at,
        updated_at=recorded.created_at,
        acknowledged_at=None,
        acknowledgment_note=None,
        resolved_at=None,
        resolution_note=None,
    )


async def _get(database: Database, alert_id: UUID, tenant_id: UUID | None) -> Alert:
    alert = await database.one_or_none(GET, id=alert_id, tenant_id=tenant_id)
    if alert is None:
        raise AlertNotFound
    return alert


def _stand(alert: Alert) -> str:
    """Say where the alert stands, for a caller that wanted it elsewhere or with another note."""
    since = alert.resolved_at or alert.acknowledged_at or alert.created_at
    return f"the alert is {alert.status} since {since}, and its note stays as it is"
