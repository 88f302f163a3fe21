"""The route that lists and searches the alerts of a tenant."""

from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from litestar import Controller, Response, get
from msgspec import Raw

from alerts_service.alerts import request_parameters as query
from alerts_service.alerts.search_terms import compile_search_terms
from alerts_service.alerts.structs import Alert, AlertPage, Severity, Status
from alerts_service.db.statements import Statement
from alerts_service.web import pagination as cursors
from alerts_service.web.openapi import NEXT_PAGE, errors
from alerts_service.web.query_params import parse_choices, require_time_zones
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse


class ListParameters(TypedDict):
    """Parameters of alerts/list."""

    tenant_id: UUID
    status: str | None
    severity: str | None
    created_after: datetime | None
    created_before: datetime | None
    before_created_at: datetime | None
    before_id: UUID | None
    rule_name: str | None


class SearchParameters(ListParameters):
    """Parameters of alerts/search."""

    pattern: str | None
    terms: int | None


LIST = Statement("alerts/list", AlertPage, parameters=ListParameters, max_batch_size=32)
# A page of search results takes PostgreSQL 4 to 9 ms, whatever the texts and terms are. A page with 1 MB of text takes
# the process 2 ms. One search at a time leaves connections and processors free for other requests.
SEARCH = Statement("alerts/search", AlertPage, parameters=SearchParameters, max_batch_size=1, max_in_flight=1)

EMPTY_PAGE = AlertPage(b"[]", None, None)


class AlertListController(Controller):
    """The list of alerts."""

    path = "/alerts"
    tags = ("alerts",)

    @get(
        summary="List alerts",
        response_description="A page of alerts",
        responses=errors(401, 422, 429, 500, 503),
        response_headers=[NEXT_PAGE],
    )
    async def list_alerts(
        self,
        request: Request,
        tenant_id: query.TenantId,
        *,
        status: query.StatusFilter = None,
        severity: query.SeverityFilter = None,
        rule_name: query.RuleNameFilter = None,
        created_after: query.CreatedAfter = None,
        created_before: query.CreatedBefore = None,
        q: query.SearchQuery = None,
        cursor: query.AlertCursor = None,
    ) -> Response[list[Alert]]:
        """List the alerts of a tenant, newest first. An alert is listed if it matches all filters.

        A page contains at most 50 alerts, and fewer if their texts exceed 1 MB. If more alerts follow, the `Link`
        header contains the URL of the next page, relative to this service. Alerts created in the meantime do not shift
        the pages.

            Link: </alerts?tenant_id=123e4567-e89b-12d3-a456-426614174000&cursor=AAZHoH5T…>; rel="next"
        """
        require_time_zones(created_after=created_after, created_before=created_before)
        last_created_at, last_id = cursors.decode_alert_cursor(cursor) if cursor is not None else (None, None)
        parameters: ListParameters = {
            "tenant_id": request.authorize_tenant(tenant_id),
            "status": parse_choices("status", status, Status),
            "severity": parse_choices("severity", severity, Severity),
            "created_after": created_after,
            "created_before": created_before,
            "before_created_at": last_created_at,
            "before_id": last_id,
            "rule_name": rule_name,
        }
        rate_limit(request, tenant_id)
        page = await _fetch_page(request, parameters, q)
        alerts = Raw(page.alerts or b"[]")
        if page.last_created_at is None or page.last_id is None:
            return JSONResponse[Any](alerts)
        next_cursor = cursors.encode_alert_cursor(page.last_created_at, page.last_id)
        return JSONResponse[Any](alerts, headers=cursors.next_page_link(request, next_cursor))


async def _fetch_page(request: Request, parameters: ListParameters, q: str | None) -> AlertPage:
    if q is None:
        page = await request.database.one(LIST, **parameters)
        if page.alerts is not None:
            return page
        # The page has a long text: alerts/search ends such pages at 1 MB.
        return await _search(request, {**parameters, "pattern": None, "terms": None})
    terms = compile_search_terms(q)
    if terms is None:
        return EMPTY_PAGE
    return await _search(request, {**parameters, "pattern": terms.pattern, "terms": terms.count})


async def _search(request: Request, parameters: SearchParameters) -> AlertPage:
    return await request.database.one(SEARCH, **parameters)
