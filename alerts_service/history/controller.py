"""The history routes: the events of an alert, and of all alerts of a tenant."""

from datetime import datetime
from typing import Annotated, Any, TypedDict
from uuid import UUID

from litestar import Controller, Response, get
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from msgspec import Raw

from alerts_service.db.statements import Statement
from alerts_service.errors import AlertNotFound, ValidationFailed
from alerts_service.history.structs import Event, EventPage, EventType
from alerts_service.web import pagination as cursors
from alerts_service.web.openapi import NEXT_PAGE, errors
from alerts_service.web.query_params import require_time_zones
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse


class EventListParameters(TypedDict):
    """Parameters of history/list."""

    tenant_id: UUID
    type: EventType | None
    since: datetime | None
    until: datetime | None
    after_occurred_at: datetime | None
    after_alert_id: UUID | None
    after_sequence: int | None


class AlertEventListParameters(TypedDict):
    """Parameters of history/list_of_alert. If `tenant_id` is None, the alert may be of any tenant."""

    alert_id: UUID
    tenant_id: UUID | None
    after_sequence: int | None


# A page contains up to 50 notes of 10,000 characters, so a batch fetches only a few pages.
LIST = Statement("history/list", EventPage, parameters=EventListParameters, max_batch_size=8)
LIST_OF_ALERT = Statement("history/list_of_alert", EventPage, parameters=AlertEventListParameters, max_batch_size=8)

AlertId = Annotated[
    UUID,
    PathParameter(
        description="The alert whose events to list.",
        schema_extra={"examples": ["0f8fad5b-d9cb-469f-a165-70867728950e"]},
    ),
]
OptionalTenantId = Annotated[
    UUID | None,
    QueryParameter(
        description="The tenant that the alert must belong to. If the alert belongs to another tenant, the response is "
        "404.",
        schema_extra={"examples": ["123e4567-e89b-12d3-a456-426614174000"]},
    ),
]
TenantId = Annotated[
    UUID,
    QueryParameter(
        description="The tenant whose events to list.", examples=[Example(value="123e4567-e89b-12d3-a456-426614174000")]
    ),
]
TypeFilter = Annotated[
    EventType | None,
    QueryParameter(name="type", description="List only events of this type.", schema_extra={"examples": ["escalated"]}),
]
Since = Annotated[
    datetime | None,
    QueryParameter(
        description="List only events at this time or later, such as `2026-01-05T09:00:00Z`. The format is RFC 3339 "
        "with `Z` or an offset from UTC. In a URL, write the `+` of an offset as `%2B`.",
        schema_extra={"examples": ["2026-01-05T09:00:00Z"]},
    ),
]
Until = Annotated[
    datetime | None,
    QueryParameter(
        description="List only events before this time. The format is the same as for `since`.",
        schema_extra={"examples": ["2026-01-06T00:00:00Z"]},
    ),
]
EventCursor = Annotated[
    str | None,
    QueryParameter(
        description="The cursor from the `Link` header of the previous page.",
        schema_extra={"examples": ["AAZHoLP4VgAPj61b2ctGn6FlcIZ3KJUOAAAAAAAC"]},
    ),
]


class HistoryController(Controller):
    """The history routes."""

    tags = ("history",)

    @get(
        "/alerts/{alert_id:str}/history",
        summary="List the events of an alert",
        response_description="A page of events",
        responses=errors(401, 404, 422, 429, 500, 503),
        response_headers=[NEXT_PAGE],
    )
    async def get_alert_history(
        self, request: Request, alert_id: AlertId, tenant_id: OptionalTenantId = None, cursor: EventCursor = None
    ) -> Response[list[Event]]:
        """List the events of an alert, oldest first. Each change of the alert is one event.

        A request that is rejected or changes nothing creates no event.

        A page contains at most 50 events. If more events follow, the `Link` header contains the URL of the next page,
        relative to this service. A cursor is valid only for the alert whose page returned it.
        """
        after_sequence = _sequence_in_cursor(cursor, alert_id) if cursor is not None else None
        rate_limit(request, tenant_id)
        parameters: AlertEventListParameters = {
            "alert_id": alert_id,
            "tenant_id": request.authorize_tenant(tenant_id),
            "after_sequence": after_sequence,
        }
        page = await request.database.one_or_none(LIST_OF_ALERT, **parameters)
        if page is None:
            raise AlertNotFound
        return _page_response(request, page)

    @get(
        "/history",
        summary="List the events of a tenant",
        response_description="A page of events",
        responses=errors(401, 422, 429, 500, 503),
        response_headers=[NEXT_PAGE],
    )
    async def list_history(
        self,
        request: Request,
        tenant_id: TenantId,
        *,
        type_: TypeFilter = None,
        since: Since = None,
        until: Until = None,
        cursor: EventCursor = None,
    ) -> Response[list[Event]]:
        """List the events of all alerts of a tenant, oldest first. An event is listed if it matches all filters.

        A page contains at most 50 events. If more events follow, the `Link` header contains the URL of the next page,
        relative to this service.

        An event becomes visible when its transaction is committed, up to a few seconds after `occurred_at`. A client
        that polls for new events should set `since` a few seconds before its latest event. The client should ignore
        events whose `id` it has already received.
        """
        require_time_zones(since=since, until=until)
        last_occurred_at, last_alert_id, last_sequence = (
            cursors.decode_event_cursor(cursor) if cursor is not None else (None, None, None)
        )
        rate_limit(request, tenant_id)
        parameters: EventListParameters = {
            "tenant_id": request.authorize_tenant(tenant_id),
            "type": type_,
            "since": since,
            "until": until,
            "after_occurred_at": last_occurred_at,
            "after_alert_id": last_alert_id,
            "after_sequence": last_sequence,
        }
        return _page_response(request, await request.database.one(LIST, **parameters))


def _sequence_in_cursor(cursor: str, alert_id: UUID) -> int:
    _, cursor_alert_id, sequence = cursors.decode_event_cursor(cursor)
    if cursor_alert_id != alert_id:
        raise ValidationFailed("cursor: belongs to another alert; use the one in the Link header of the previous page")
    return sequence


def _page_response(request: Request, page: EventPage) -> Response[list[Event]]:
    headers = {}
    if page.last_occurred_at is not None and page.last_alert_id is not None and page.last_sequence is not None:
        cursor = cursors.encode_event_cursor(page.last_occurred_at, page.last_alert_id, page.last_sequence)
        headers = cursors.next_page_link(request, cursor)
    return JSONResponse[Any](Raw(page.events.encode()), headers=headers)
