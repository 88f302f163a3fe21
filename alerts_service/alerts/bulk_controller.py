"""Many alerts in one request, each judged by itself: recording them, and moving them on."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET, Raw, Struct, UnsetType

from alerts_service.alerts.bulk_create import Admission, Call, read_list, record, status
from alerts_service.alerts.bulk_structs import (
    BulkCreate,
    BulkResults,
    BulkTransition,
    BulkTransitionResults,
    Filter,
    Result,
    WholeAlerts,
    encode_results,
    failure,
    result,
)
from alerts_service.alerts.controller import Owner
from alerts_service.alerts.ndjson import record_lines
from alerts_service.alerts.statements import GET, TRANSITIONS, created, ensure_in_state, find_tenant, move
from alerts_service.alerts.structs import Alert, CreateAlert, Created, Status
from alerts_service.db.database import Statement
from alerts_service.errors import (
    SEND_BUFFER_FULL,
    AlertNotFound,
    ApiError,
    Conflict,
    ServiceOverloaded,
    TooManyRequests,
    ValidationFailed,
)
from alerts_service.web.idempotency import HEADER as IDEMPOTENCY_KEY
from alerts_service.web.idempotency import idempotent
from alerts_service.web.openapi import errors
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request, decoder_for
from alerts_service.web.responses import JSONResponse, NdjsonResponse

# Alerts that one statement looks up: each may have 120 kB.
LOOKED_UP_AT_ONCE = 50

TAKES_LINES = {"takes_lines": CreateAlert}
STREAM = BulkCreate(alerts=[])


class Found(Struct, frozen=True):
    """What a filter finds: the JSON of ids and times of the last change, and whether there are more."""

    alerts: str
    more: bool


FIND = Statement("alerts/find", Found)
ID = decoder_for(UUID)
FOUND = decoder_for(list[tuple[UUID, str]])


class BulkController(Controller):
    """What everybody may call."""

    path = "/alerts/bulk"
    tags = ("bulk",)

    @post(
        status_code=HTTP_200_OK,
        summary="Record alerts",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
        opt=TAKES_LINES,
    )
    async def create_alerts(self, request: Request, data: JSONBody[BulkCreate] = STREAM) -> Response[BulkResults]:
        """Up to 1,000, each judged by itself and answered in their order; an alert with 201 is committed.

        The first 4 MiB of results contain complete alerts. Later results contain `id` in place of `alert`.

        As `application/x-ndjson`, an alert a line, there may be any number: the answers come as a stream too, a line
        each, while the lines come in. Read them meanwhile. When the token expires, the stream ends with one result of
        status 401, and the remaining lines are not processed. If the next line does not arrive in time, the last result
        has status 408.
        """
        return await _create(request, data, Admission(request))

    @post(
        "/acknowledge",
        status_code=HTTP_200_OK,
        summary="Acknowledge alerts",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: Owner = None
    ) -> Response[BulkTransitionResults]:
        """By ids, each as if it came alone, or by a filter, the oldest 1,000 of those that are still triggered.

        An id that comes several times is changed once, and each of its results is the same. The first
        4 MiB of results contain complete alerts. Later results contain `id` in place of `alert`.
        """
        named = _named(request, data, tenant_id)
        rate_limit(request, named)
        tenant = request.authorize_tenant(named)
        return await _move_once(request, "acknowledged", data, tenant_id, tenant)

    @post(
        "/resolve",
        status_code=HTTP_200_OK,
        summary="Resolve alerts",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: Owner = None
    ) -> Response[BulkTransitionResults]:
        """By ids, each as if it came alone, or by a filter, the oldest 1,000 of those that are not resolved yet.

        An id that comes several times is changed once, and each of its results is the same. The first
        4 MiB of results contain complete alerts. Later results contain `id` in place of `alert`.
        """
        named = _named(request, data, tenant_id)
        rate_limit(request, named)
        tenant = request.authorize_tenant(named)
        return await _move_once(request, "resolved", data, tenant_id, tenant)


class InternalBulkController(Controller):
    """What only our own services may call: mount it behind the service key."""

    path = "/alerts/bulk"
    tags = ("internal",)

    @post(
        status_code=HTTP_200_OK,
        summary="Record alerts, as a service",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
        opt=TAKES_LINES,
    )
    async def create_internal_alerts(
        self, request: Request, data: JSONBody[BulkCreate] = STREAM
    ) -> Response[BulkResults]:
        """As `POST /alerts/bulk`, for callers that hold the internal service key."""
        return await _create(request, data, None)

    @post(
        "/acknowledge",
        status_code=HTTP_200_OK,
        summary="Acknowledge alerts, as a service",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_internal_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: Owner = None
    ) -> Response[BulkTransitionResults]:
        """As `POST /alerts/bulk/acknowledge`, for callers that hold the internal service key."""
        tenant = _named(request, data, tenant_id)
        return await _move_once(request, "acknowledged", data, tenant_id, tenant)

    @post(
        "/resolve",
        status_code=HTTP_200_OK,
        summary="Resolve alerts, as a service",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_internal_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: Owner = None
    ) -> Response[BulkTransitionResults]:
        """As `POST /alerts/bulk/resolve`, for callers that hold the internal service key."""
        tenant = _named(request, data, tenant_id)
        return await _move_once(request, "resolved", data, tenant_id, tenant)


async def _create(request: Request, data: BulkCreate, admission: Admission | None) -> Response[BulkResults]:
    if not data.alerts and not request.is_ndjson:
        raise ValidationFailed("body: must not be empty")
    if admission is not None:
        admission.begin()
    if not data.alerts:
        return await idempotent(request, None, partial(_stream, request, admission))
    _check_send_buffer(request)
    # Before a key takes a connection to the database: the list may have to wait for others.
    calls = await read_list(request, data.alerts, admission)
    if request.header_values(IDEMPOTENCY_KEY):
        for call in calls:
            if isinstance(call, TooManyRequests):
                raise call  # a first answer is kept: what only has to wait must not become one
    return await idempotent(request, None, partial(_record, request, calls), find_tenant=lambda: _first_tenant(calls))


async def _stream(request: Request, admission: Admission | None) -> Response[BulkResults]:
    return NdjsonResponse(record_lines(request, admission))


async def _record(request: Request, calls: Sequence[Call | ApiError]) -> Response[BulkResults]:
    outcomes = await record(request, calls, WholeAlerts())
    request.log_failure_reason(outcomes)
    return JSONResponse(BulkResults(await encode_results(map(_recorded, outcomes))))


async def _first_tenant(calls: Sequence[Call | ApiError]) -> UUID | None:
    return next((call["tenant_id"] for call in calls if not isinstance(call, Exception)), None)


def _check_send_buffer(request: Request) -> None:
    """Refuse a request whose response may be large before anything is changed.

    Raises:
        ServiceOverloaded: there is no room for its response.
    """
    if not request.app.state.send_buffer.has_room():
        raise ServiceOverloaded(SEND_BUFFER_FULL)


def _recorded(outcome: tuple[Call, Any] | Exception) -> Result:
    if isinstance(outcome, Exception):
        return Result(**failure(outcome))
    call, row = outcome
    if isinstance(row, Created):
        return Result(status=HTTPStatus.CREATED, alert=created(call, row))
    return result(status(call, row), row)


def _named(request: Request, data: BulkTransition, tenant_id: UUID | None) -> UUID | None:
    """Name the tenant that is asked for, if any.

    Raises:
        ValidationFailed: the request has a condition, which only one alert can meet.
    """
    if request.header_values(b"if-match"):
        raise ValidationFailed("If-Match: not where many alerts are moved")
    return tenant_id if data.filter is UNSET else data.filter.tenant_id


async def _move_once(
    request: Request, to: Status, data: BulkTransition, named: UUID | None, tenant_id: UUID | None
) -> Response[BulkTransitionResults]:
    """Apply a bulk transition idempotently, to alerts of the authorized tenant."""

    def find() -> Awaitable[UUID | None]:
        ids = [] if data.ids is UNSET else [_read_id(item) for item in data.ids]
        return find_tenant(request, [id_ for id_ in ids if not isinstance(id_, Exception)])

    work = partial(_move, request, to, data, named, tenant_id)
    return await idempotent(request, tenant_id, work, find_tenant=find, dry_run=data.dry_run)


async def _move(
    request: Request, to: Status, data: BulkTransition, named: UUID | None, tenant_id: UUID | None
) -> Response[BulkTransitionResults]:
    """Apply a bulk transition to alerts of the authorized tenant."""
    _check_send_buffer(request)
    outcomes: list[Any] = []
    more = False
    if data.ids is not UNSET:
        ids = [_read_id(item) for item in data.ids]
        distinct = list(dict.fromkeys(id_ for id_ in ids if not isinstance(id_, Exception)))
        move_on = _preview if data.dry_run else _change
        alerts = dict(zip(distinct, await move_on(request, to, distinct, tenant_id, data.note), strict=True))
        outcomes = [id_ if isinstance(id_, Exception) else alerts[id_] for id_ in ids]
    elif data.filter is not UNSET and named in {None, data.filter.tenant_id}:
        found, more = await _find(request, to, data.filter, tenant_id)
        if data.dry_run:
            outcomes = await _look(request, [id_ for id_, _ in found], tenant_id, lambda alert: alert)
        else:
            outcomes = await _change_found(request, to, found, tenant_id, data.note)
            more = more or len(outcomes) < len(found)
    request.log_failure_reason(outcomes)
    return JSONResponse(BulkTransitionResults(await encode_results(map(_moved, outcomes)), more))


def _read_id(item: Raw) -> UUID | ApiError:
    try:
        id_: UUID = ID.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ValidationFailed("id: Invalid UUID")
    return id_


async def _find(
    request: Request, to: Status, filter_: Filter, tenant_id: UUID | None
) -> tuple[list[tuple[UUID, str]], bool]:
    found = await request.database.one(
        FIND,
        tenant_id=tenant_id,
        move=to,
        status=filter_.status,
        severity=filter_.severity,
        rule_name=filter_.rule_name,
        created_after=filter_.created_after,
        created_before=filter_.created_before,
    )
    return FOUND.decode(found.alerts), found.more


async def _look(
    request: Request,
    ids: Sequence[UUID],
    tenant_id: UUID | None,
    judge: Callable[[Alert], Alert | Exception | UnsetType],
) -> list[Any]:
    """Look up alerts, and return what `judge` makes of each: of many large alerts that are kept, the ids."""
    whole = WholeAlerts()

    def keep(alert: Alert) -> Alert | UUID | Exception | UnsetType:
        outcome = judge(alert)
        return whole(outcome) if isinstance(outcome, Alert) else outcome

    calls = [{"id": id_, "tenant_id": tenant_id} for id_ in ids]
    found = await request.database.many(GET, calls, keep, at_once=LOOKED_UP_AT_ONCE)
    return [AlertNotFound() if outcome is None else outcome for outcome in found]


async def _preview(
    request: Request, to: Status, ids: Sequence[UUID], tenant_id: UUID | None, note: str | None
) -> list[Alert | UUID | Exception]:
    """Look at alerts that would move, and judge those that would not as the move does."""
    ahead = {"triggered", "acknowledged"} if to == "resolved" else {"triggered"}
    return await _look(
        request, ids, tenant_id, lambda alert: alert if alert.status in ahead else _stand(alert, to, note)
    )


async def _change(
    request: Request, to: Status, ids: Sequence[UUID], tenant_id: UUID | None, note: str | None
) -> list[Alert | UUID | Exception]:
    """Move alerts on, and look at those that did not move as the single route does."""

    def judge(alert: Alert) -> Alert | Exception | UnsetType:
        """Return UNSET for an alert to be moved again: a repeat that came in between has triggered it."""
        return UNSET if to == "acknowledged" and alert.status == "triggered" else _stand(alert, to, note)

    calls = [move(request, id_, tenant_id, note=note) for id_ in ids]
    changed = await request.database.many(TRANSITIONS[to], calls, WholeAlerts())
    left = [id_ for id_, alert in zip(ids, changed, strict=True) if alert is None]
    looked = dict(zip(left, await _look(request, left, tenant_id, judge), strict=True))
    again = [id_ for id_, outcome in looked.items() if outcome is UNSET]
    if again:
        looked.update(zip(again, await _change(request, to, again, tenant_id, note), strict=True))
    return [looked[id_] if alert is None else alert for id_, alert in zip(ids, changed, strict=True)]


async def _change_found(
    request: Request, to: Status, found: Sequence[tuple[UUID, str]], tenant_id: UUID | None, note: str | None
) -> list[Alert | UUID | Exception]:
    """Move on what is still as it was found; of what has changed meanwhile the filter may no longer be true."""
    calls = [move(request, id_, tenant_id, note=note, if_match=f'"{changed_at}"') for id_, changed_at in found]
    changed = await request.database.many(TRANSITIONS[to], calls, WholeAlerts())
    return [alert for alert in changed if alert is not None]


def _stand(alert: Alert, to: Status, note: str | None) -> Alert | Exception:
    try:
        return ensure_in_state(alert, to, note)
    except Conflict as refusal:
        return refusal.with_traceback(None)  # which would hold on to the alert


def _moved(outcome: Alert | UUID | Exception) -> Result:
    if isinstance(outcome, Exception):
        return Result(**failure(outcome))
    return result(HTTPStatus.OK, outcome)
