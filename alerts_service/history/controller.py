"""The history routes: what an alert, and what all of a tenant's alerts went through."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, get
from litestar.params import PathParameter, QueryParameter
from msgspec import Raw

from alerts_service.db.database import Statement
from alerts_service.errors import AlertNotFound
from alerts_service.history.structs import Event, EventType, Page
from alerts_service.web import pagination as cursors
from alerts_service.web.openapi import NEXT_PAGE, errors
from alerts_service.web.query_params import check_zones
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse

# A page holds up to 50 notes of 10,000 characters.
LIST = Statement("history/list", Page, max_batch_size=8)
LIST_OF_ALERT = Statement("history/list_of_alert", Page, max_batch_size=8)

Cursor = Annotated[str | None, QueryParameter(description="Where to go on: from a `Link` header.")]


class HistoryController(Controller):
    """The history routes."""

    tags = ("history",)

    @get(
        "/alerts/{alert_id:str}/history",
        summary="Show what an alert went through",
        response_description="One page of events",
        responses=errors(401, 404, 422, 429, 500, 503),
        response_headers=[NEXT_PAGE],
    )
    async def get_alert_history(
        self,
        request: Request,
        alert_id: Annotated[UUID, PathParameter(description="The alert.")],
        tenant_id: Annotated[
            UUID | None,
            QueryParameter(description="When given, the alert must be this tenant's; any other is answered with 404."),
        ] = None,
        cursor: Cursor = None,
    ) -> Response[list[Event]]:
        """Oldest first, 50 at most. While there are more, a `Link` header with `rel="next"` names the next page."""
        sequence = cursors.decode_event(cursor)[2] if cursor is not None else None
        rate_limit(request, tenant_id)
        page = await request.database.one_or_none(
            LIST_OF_ALERT, alert_id=alert_id, tenant_id=request.authorize_tenant(tenant_id), after_sequence=sequence
        )
        if page is None:
            raise AlertNotFound
        return _answer(request, page)

    @get(
        "/history",
        summary="Show what a tenant's alerts went through",
        response_description="One page of events",
        responses=errors(401, 422, 429, 500, 503),
        response_headers=[NEXT_PAGE],
    )
    async def list_history(
        self,
        request: Request,
        tenant_id: Annotated[UUID, QueryParameter(description="The tenant whose log to show.")],
        *,
        type_: Annotated[EventType | None, QueryParameter(name="type", description="Only events of this type.")] = None,
        since: Annotated[datetime | None, QueryParameter(description="Only events from this time on.")] = None,
        until: Annotated[datetime | None, QueryParameter(description="Only events before this time.")] = None,
        cursor: Cursor = None,
    ) -> Response[list[Event]]:
        """Oldest first, 50 at most. While there are more, a `Link` header with `rel="next"` names the next page.

        An event is seen once it is committed, up to a few seconds after its time: whoever follows the log asks again
        from a little before the last event that it has.
        """
        check_zones(since=since, until=until)
        occurred_at, alert_id, sequence = cursors.decode_event(cursor) if cursor is not None else (None, None, None)
        rate_limit(request, tenant_id)
        page = await request.database.one(
            LIST,
            tenant_id=request.authorize_tenant(tenant_id),
            type=type_,
            since=since,
            until=until,
            after_occurred_at=occurred_at,
            after_alert_id=alert_id,
            after_sequence=sequence,
        )
        return _answer(request, page)


def _answer(request: Request, page: Page) -> Response[list[Event]]:
    headers = {}
    if page.last_occurred_at is not None and page.last_alert_id is not None and page.last_sequence is not None:
        headers = cursors.next_page_link(
            request, cursors.encode_event(page.last_occurred_at, page.last_alert_id, page.last_sequence)
        )
    return JSONResponse[Any](Raw(page.events.encode()), headers=headers)
