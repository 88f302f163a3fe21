"""The alert routes: recording, finding, acknowledging, resolving."""

import re
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_304_NOT_MODIFIED
from msgspec import Raw

from alerts_service.alerts.search_terms import compile_search_terms
from alerts_service.alerts.statements import (
    CREATE,
    CREATE_DEDUPLICATED,
    GET,
    TRANSITIONS,
    create_parameters,
    created,
    ensure_in_state,
    find_tenant,
    move,
)
from alerts_service.alerts.structs import (
    MERGED_EXAMPLE,
    NO_NUL,
    Alert,
    CreateAlert,
    NoteRequest,
    Page,
    Severity,
    Status,
)
from alerts_service.db.database import Statement
from alerts_service.errors import AlertNotFound, Forbidden, PreconditionFailed
from alerts_service.web import pagination as cursors
from alerts_service.web.idempotency import idempotent
from alerts_service.web.openapi import ETAG, IF_MATCH, IF_NONE_MATCH, NEXT_PAGE, UNCHANGED, errors, several
from alerts_service.web.query_params import check_zones, choices
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse, encode

NO_NOTE = NoteRequest()
NO_ALERTS = Page(b"[]", None, None)

LIST = Statement("alerts/list", Page, max_batch_size=32)
# A page of words, or of long texts, costs PostgreSQL about 5 ms, and the process 2 ms for 1 MB: one at a time leaves
# connections and processors to all others.
SEARCH = Statement("alerts/search", Page, max_batch_size=1, max_in_flight=1)

AlertId = Annotated[UUID, PathParameter(description="The id that the alert got when it was recorded.")]
Owner = Annotated[
    UUID | None,
    QueryParameter(description="When given, the alert must be this tenant's; any other is answered with 404."),
]
MERGED = ResponseSpec(
    Alert,
    description="The open alert with this `dedup_key`, into which it was merged",
    generate_examples=False,
    examples=[Example(value=Raw(encode(MERGED_EXAMPLE)))],
)
# A cache may keep one alert, but must compare its ETag before each use.
REVALIDATED = {"Cache-Control": "private, no-cache"}
WEAK_TAG = re.compile(r'W/"[^"]*"')


class AlertsController(Controller):
    """What everybody may call."""

    path = "/alerts"
    tags = ("alerts",)

    @post(
        summary="Record an alert",
        response_description="The alert, recorded",
        response_headers=[ETAG],
        responses={200: MERGED, **errors(401, 403, 409, 413, 415, 422, 429, 500, 503)},
    )
    async def create_alert(self, request: Request, data: JSONBody[CreateAlert]) -> Response[Alert]:
        """The alert is committed when this answers.

        While the tenant has an open alert with the same `dedup_key`, that one is answered with 200, with an occurrence
        more and a severity that at most rises. If it does, an acknowledgment is undone. A resolved alert frees its key.
        """
        rate_limit(request, data.tenant_id)
        if request.authorize_tenant(data.tenant_id) != data.tenant_id:
            raise Forbidden("tenant_id: must be the token's own tenant")
        return await idempotent(request, data.tenant_id, partial(_create, request, data))

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
        *,
        status: Annotated[
            str | None,
            QueryParameter(
                description="Only alerts in this status, or in one of several with commas between them.",
                schema_extra=several(Status),
            ),
        ] = None,
        severity: Annotated[
            str | None,
            QueryParameter(
                description="Only alerts of this severity, or of one of several with commas between them.",
                schema_extra=several(Severity),
            ),
        ] = None,
        rule_name: Annotated[
            str | None,
            QueryParameter(
                description="Only alerts of exactly this rule.", min_length=1, max_length=255, pattern=NO_NUL
            ),
        ] = None,
        created_after: Annotated[
            datetime | None, QueryParameter(description="Only alerts recorded at this time or later.")
        ] = None,
        created_before: Annotated[
            datetime | None, QueryParameter(description="Only alerts recorded before this time.")
        ] = None,
        q: Annotated[
            str | None,
            QueryParameter(
                description="Only alerts with these words in the name of their rule or in their message: `missed call` "
                'finds both words, `"not returned"` a phrase, `fax or voicemail` either word, and `-test` excludes '
                "alerts with that word. Whole words match, in any case. Characters other than letters and digits "
                "separate words. If `q` has no letter or digit, the list is empty.",
                min_length=1,
                max_length=200,
                pattern=NO_NUL,
            ),
        ] = None,
        cursor: Annotated[str | None, QueryParameter(description="Where to go on: from a `Link` header.")] = None,
    ) -> Response[list[Alert]]:
        """Newest first. While there are more, a `Link` header with `rel="next"` names the next page.

        A page ends after 50 alerts, or earlier when their texts exceed 1 MB. With `q` a page holds the matches among
        the next 1,000 alerts, or the next 200 kB of messages, that pass the other filters; with more than eight words
        it examines fewer. Such a page may be empty and still have a `Link` to the next one.
        """
        check_zones(created_after=created_after, created_before=created_before)
        created_at, id_ = cursors.decode(cursor) if cursor is not None else (None, None)
        parameters: dict[str, object] = {
            "tenant_id": request.authorize_tenant(tenant_id),
            "status": choices("status", status, Status),
            "severity": choices("severity", severity, Severity),
            "created_after": created_after,
            "created_before": created_before,
            "before_created_at": created_at,
            "before_id": id_,
            "rule_name": rule_name,
        }
        rate_limit(request, tenant_id)
        page = await _page(request, parameters, q)
        alerts = Raw(page.alerts or b"[]")
        if page.last_created_at is None or page.last_id is None:
            return JSONResponse[Any](alerts)
        following = cursors.encode(page.last_created_at, page.last_id)
        return JSONResponse[Any](alerts, headers=cursors.next_page_link(request, following))

    @get(
        "/{alert_id:str}",
        summary="Get one alert",
        response_description="The alert",
        opt={"headers": [IF_NONE_MATCH]},
        response_headers=[ETAG],
        responses={304: UNCHANGED, **errors(401, 404, 422, 429, 500, 503)},
    )
    async def get_alert(
        self,
        request: Request,
        alert_id: AlertId,
        tenant_id: Owner = None,
    ) -> Response[Alert]:
        """The alert as it stands now. Its `ETag` is another after every change."""
        rate_limit(request, tenant_id)
        alert = await _get(request, alert_id, request.authorize_tenant(tenant_id))
        tags = _tags(request, b"if-none-match")
        if tags == "*" or _tag(alert) in tags:
            return Response[Any](None, status_code=HTTP_304_NOT_MODIFIED, headers={"ETag": _tag(alert), **REVALIDATED})
        return JSONResponse(alert, headers={"ETag": _tag(alert), **REVALIDATED})

    @put(
        "/{alert_id:str}/acknowledge",
        summary="Acknowledge an alert",
        response_description="The alert, acknowledged",
        opt={"headers": [IF_MATCH]},
        response_headers=[ETAG],
        responses=errors(401, 404, 409, 412, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_alert(
        self,
        request: Request,
        alert_id: AlertId,
        data: JSONBody[NoteRequest] = NO_NOTE,
        tenant_id: Owner = None,
    ) -> Response[Alert]:
        """From `triggered`. The same call again changes nothing and answers 200; with another note it is a conflict."""
        rate_limit(request, tenant_id)
        own = request.authorize_tenant(tenant_id)
        transition = partial(_move, request, "acknowledged", alert_id, own, note=data.note)
        return await idempotent(request, tenant_id, transition, find_tenant=lambda: find_tenant(request, [alert_id]))

    @put(
        "/{alert_id:str}/resolve",
        summary="Resolve an alert",
        response_description="The alert, resolved",
        opt={"headers": [IF_MATCH]},
        response_headers=[ETAG],
        responses=errors(401, 404, 409, 412, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_alert(
        self,
        request: Request,
        alert_id: AlertId,
        data: JSONBody[NoteRequest] = NO_NOTE,
        tenant_id: Owner = None,
    ) -> Response[Alert]:
        """From `triggered` or `acknowledged`. The same call again answers 200; with another note it is a conflict."""
        rate_limit(request, tenant_id)
        own = request.authorize_tenant(tenant_id)
        transition = partial(_move, request, "resolved", alert_id, own, note=data.note)
        return await idempotent(request, tenant_id, transition, find_tenant=lambda: find_tenant(request, [alert_id]))


class InternalAlertsController(Controller):
    """What only our own services may call: mount it behind the service key."""

    path = "/alerts"
    tags = ("internal",)

    @post(
        summary="Record an alert, as a service",
        response_description="The alert, recorded",
        response_headers=[ETAG],
        responses={200: MERGED, **errors(401, 409, 413, 415, 422, 429, 500, 503)},
    )
    async def create_internal_alert(self, request: Request, data: JSONBody[CreateAlert]) -> Response[Alert]:
        """As `POST /alerts`, for callers that hold the internal service key."""
        return await idempotent(request, data.tenant_id, partial(_create, request, data))


async def _page(request: Request, parameters: dict[str, object], q: str | None) -> Page:
    if q is None:
        page = await request.database.one(LIST, **parameters)
        if page.alerts is not None:
            return page
        return await request.database.one(SEARCH, **parameters, pattern=None, terms=None)
    terms = compile_search_terms(q)
    if terms is None:
        return NO_ALERTS
    return await request.database.one(SEARCH, **parameters, pattern=terms.pattern, terms=terms.count)


async def _create(request: Request, alert: CreateAlert) -> JSONResponse[Alert]:
    call = create_parameters(request, alert)
    if alert.dedup_key is None:
        return _answer(created(call, await request.database.one(CREATE, **call)))
    merged = await request.database.one(CREATE_DEDUPLICATED, **call)
    return _answer(merged, None if merged.id == call["id"] else HTTP_200_OK)


async def _get(request: Request, alert_id: UUID, tenant_id: UUID | None) -> Alert:
    alert = await request.database.one_or_none(GET, id=alert_id, tenant_id=tenant_id)
    if alert is None:
        raise AlertNotFound
    return alert


async def _move(
    request: Request, to: Status, alert_id: UUID, tenant_id: UUID | None, *, note: str | None
) -> Response[Alert]:
    tags = _tags(request, b"if-match")
    if_match = None if tags in {"", "*"} else WEAK_TAG.sub("", tags)
    call = move(request, alert_id, tenant_id, note=note, if_match=if_match)
    changed = await request.database.one_or_none(TRANSITIONS[to], **call)
    if changed is not None:
        return _answer(changed)
    alert = await _get(request, alert_id, tenant_id)
    if if_match is not None and _tag(alert) not in if_match:
        raise PreconditionFailed(f"the alert has none of these tags, but {_tag(alert)}")
    if to == "acknowledged" and alert.status == "triggered":  # again, by a repeat that came in between
        return await _move(request, to, alert_id, tenant_id, note=note)
    return _answer(ensure_in_state(alert, to, note))


def _answer(alert: Alert, status_code: int | None = None) -> JSONResponse[Alert]:
    return JSONResponse(alert, status_code=status_code, headers={"ETag": _tag(alert)})


def _tags(request: Request, condition: bytes) -> str:
    """Read the tags that a header names: `*` is any, and without the header there are none."""
    return b",".join(value or b'""' for value in request.header_values(condition)).decode("latin-1")


def _tag(alert: Alert) -> str:
    """Tell one state of an alert from another: no two of them have the same time."""
    return f'"{alert.updated_at}"'
