"""The routes that create, get, acknowledge and resolve one alert."""

from functools import partial
from typing import Any
from uuid import UUID

from litestar import Controller, Response, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_304_NOT_MODIFIED
from msgspec import Raw
from msgspec.structs import asdict

from alerts_service.alerts.etags import REVALIDATE, alert_response, etag, is_not_modified, read_if_match
from alerts_service.alerts.request_parameters import AlertId, OptionalTenantId
from alerts_service.alerts.statements import (
    CREATE,
    CREATE_DEDUPLICATED,
    GET,
    TRANSITIONS,
    CreateDeduplicatedParameters,
    create_parameters,
    ensure_in_state,
    find_tenant,
    to_alert,
    transition_parameters,
)
from alerts_service.alerts.structs import (
    DUPLICATE_EXAMPLE,
    RESOLVED_EXAMPLE,
    TRIGGERED_EXAMPLE,
    Alert,
    CreateAlert,
    Status,
    TransitionRequest,
)
from alerts_service.errors import AlertNotFound, Forbidden, PreconditionFailed
from alerts_service.web.idempotency import idempotent
from alerts_service.web.openapi import ETAG, IF_MATCH, IF_NONE_MATCH, NOT_MODIFIED, errors
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse, encode

EMPTY_BODY = TransitionRequest()
DUPLICATE = ResponseSpec(
    Alert,
    description="The request is a duplicate. The body is the open alert with this `dedup_key`",
    generate_examples=False,
    examples=[Example(value=Raw(encode(DUPLICATE_EXAMPLE)))],
)


class AlertsController(Controller):
    """The routes for the clients of tenants."""

    path = "/alerts"
    tags = ("alerts",)

    @post(
        summary="Create an alert",
        response_description="The created alert",
        opt={"example": TRIGGERED_EXAMPLE},
        response_headers=[ETAG],
        responses={200: DUPLICATE, **errors(401, 403, 409, 413, 415, 422, 429, 500, 503)},
    )
    async def create_alert(self, request: Request, data: JSONBody[CreateAlert]) -> Response[Alert]:
        """Create an alert with the status `triggered`. If the response is 201, the alert is committed.

        **Duplicates.** For each `dedup_key`, a tenant has at most one open (not resolved) alert. While it is open, a
        request with the same key is a duplicate and creates no alert. The response is 200 with the open alert:

        - `occurrences` increases by one, and `last_seen_at` becomes the time of the duplicate.
        - `severity` becomes that of the duplicate if it is higher. The severity is never lowered.
        - If the severity rises, an acknowledged alert returns to `triggered`. Otherwise the status does not change.
        - `rule_name` and `message` do not change. The history of the alert contains the message of each duplicate.

        After the alert is resolved, the next request with the key creates a new alert. For example:

        | Request | Response | `occurrences` | `severity` | `status` |
        |---|---|---|---|---|
        | create, `medium` | 201 | 1 | `medium` | `triggered` |
        | acknowledge | 200 | 1 | `medium` | `acknowledged` |
        | create, `low` | 200 | 2 | `medium` | `acknowledged` |
        | create, `high` | 200 | 3 | `high` | `triggered` |
        | resolve | 200 | 3 | `high` | `resolved` |
        | create, `low` | 201 | 1 | `low` | `triggered` |

        Concurrent requests with the same key may be processed together. Each response then contains the alert after all
        of these requests.
        """
        rate_limit(request, data.tenant_id)
        if request.tenant not in {None, data.tenant_id}:
            raise Forbidden
        return await idempotent(request, data.tenant_id, partial(_create, request, data))

    @get(
        "/{alert_id:str}",
        summary="Get an alert",
        response_description="The alert",
        opt={"headers": [IF_NONE_MATCH]},
        response_headers=[ETAG],
        responses={304: NOT_MODIFIED, **errors(401, 404, 422, 429, 500, 503)},
    )
    async def get_alert(
        self, request: Request, alert_id: AlertId, tenant_id: OptionalTenantId = None
    ) -> Response[Alert]:
        """Return an alert in its present state.

        The `ETag` header identifies this state: every change of the alert changes the entity tag. If a request contains
        the tag in `If-None-Match` and the alert is unchanged, the response is 304 without a body:

            If-None-Match: "2026-01-05T09:30:00+00:00"

        A private cache may store the response, but must revalidate it before each use (`Cache-Control: private,
        no-cache`).
        """
        rate_limit(request, tenant_id)
        alert = await _get(request, alert_id, request.authorize_tenant(tenant_id))
        headers = {"ETag": etag(alert), **REVALIDATE}
        if is_not_modified(request, alert):
            return Response[Any](None, status_code=HTTP_304_NOT_MODIFIED, headers=headers)
        return JSONResponse(alert, headers=headers)

    @put(
        "/{alert_id:str}/acknowledge",
        summary="Acknowledge an alert",
        response_description="The acknowledged alert",
        opt={"headers": [IF_MATCH]},
        response_headers=[ETAG],
        responses=errors(401, 404, 409, 412, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_alert(
        self,
        request: Request,
        alert_id: AlertId,
        data: JSONBody[TransitionRequest] = EMPTY_BODY,
        tenant_id: OptionalTenantId = None,
    ) -> Response[Alert]:
        """Change the status of an alert from `triggered` to `acknowledged`, with an optional note.

        - If the alert is already acknowledged, a request with the same note or without a note changes nothing. The
          response is 200.
        - If the note differs, or if the alert is resolved, the response is 409. An empty string is a note.
        - If several clients acknowledge an alert at the same time, exactly one request changes it.
        - With `If-Match`, the response is 412 if the alert has changed since the client read its `ETag`. This includes
          a change by an earlier attempt of the same request. To retry safely, use an `Idempotency-Key`.

        The body is optional. A later duplicate of higher severity returns the alert to `triggered`.
        """
        return await _transition(request, "acknowledged", alert_id, tenant_id, data.note)

    @put(
        "/{alert_id:str}/resolve",
        summary="Resolve an alert",
        response_description="The resolved alert",
        opt={"headers": [IF_MATCH], "example": RESOLVED_EXAMPLE},
        response_headers=[ETAG],
        responses=errors(401, 404, 409, 412, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_alert(
        self,
        request: Request,
        alert_id: AlertId,
        data: JSONBody[TransitionRequest] = EMPTY_BODY,
        tenant_id: OptionalTenantId = None,
    ) -> Response[Alert]:
        """Change the status of an alert from `triggered` or `acknowledged` to `resolved`, with an optional note.

        A resolved alert cannot change. Its `dedup_key` is free for a new alert.

        - If the alert is already resolved, a request with the same note or without a note changes nothing. The response
          is 200.
        - If the note differs, the response is 409. An empty string is a note.
        - If several clients resolve an alert at the same time, exactly one request changes it.
        - With `If-Match`, the response is 412 if the alert has changed since the client read its `ETag`. This includes
          a change by an earlier attempt of the same request. To retry safely, use an `Idempotency-Key`.

        The body is optional.
        """
        return await _transition(request, "resolved", alert_id, tenant_id, data.note)


class InternalAlertsController(Controller):
    """The route for other services. A service key is required."""

    path = "/alerts"
    tags = ("internal",)

    @post(
        summary="Create an alert as a service",
        response_description="The created alert",
        opt={"example": TRIGGERED_EXAMPLE},
        response_headers=[ETAG],
        responses={200: DUPLICATE, **errors(401, 409, 413, 415, 422, 429, 500, 503)},
    )
    async def create_internal_alert(self, request: Request, data: JSONBody[CreateAlert]) -> Response[Alert]:
        """Create an alert of any tenant. The client must send a service key.

        Deduplication and responses are the same as for `POST /alerts`.
        """
        return await idempotent(request, data.tenant_id, partial(_create, request, data))


async def _create(request: Request, alert: CreateAlert) -> JSONResponse[Alert]:
    parameters = create_parameters(request, alert)
    if isinstance(parameters, CreateDeduplicatedParameters):
        open_alert = await request.database.one(CREATE_DEDUPLICATED, **asdict(parameters))
        return alert_response(open_alert, None if open_alert.id == parameters.id else HTTP_200_OK)
    return alert_response(to_alert(parameters, await request.database.one(CREATE, **asdict(parameters))))


async def _get(request: Request, alert_id: UUID, tenant_id: UUID | None) -> Alert:
    alert = await request.database.one_or_none(GET, id=alert_id, tenant_id=tenant_id)
    if alert is None:
        raise AlertNotFound
    return alert


async def _transition(
    request: Request, to: Status, alert_id: UUID, tenant_id: UUID | None, note: str | None
) -> Response[Alert]:
    rate_limit(request, tenant_id)
    authorized_tenant = request.authorize_tenant(tenant_id)
    apply = partial(_apply_transition, request, to, alert_id, authorized_tenant, note)
    return await idempotent(request, tenant_id, apply, find_tenant=lambda: find_tenant(request, [alert_id]))


async def _apply_transition(
    request: Request, to: Status, alert_id: UUID, tenant_id: UUID | None, note: str | None
) -> Response[Alert]:
    if_match = read_if_match(request)
    parameters = transition_parameters(request, alert_id, tenant_id, note=note, if_match=if_match)
    while True:
        changed = await request.database.one_or_none(TRANSITIONS[to], **asdict(parameters))
        if changed is not None:
            return alert_response(changed)
        alert = await _get(request, alert_id, tenant_id)
        if if_match is not None and etag(alert) not in if_match:
            raise PreconditionFailed(f"If-Match: the entity tag of the alert is {etag(alert)}")
        if to != "acknowledged" or alert.status != "triggered":
            return alert_response(ensure_in_state(alert, to, note))
        # A duplicate of higher severity returned the alert to `triggered` between the two statements: try again.
