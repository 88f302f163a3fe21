"""Many alerts in one request, each judged by itself: recording them, from a list or a stream, and moving them on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Controller, Response, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from alerts_service.alerts.controller import (
    CREATE,
    CREATE_DEDUPLICATED,
    GET,
    MOVES,
    Owner,
    created,
    creation,
    move,
    unmoved,
)
from alerts_service.alerts.structs import NO_NUL, Alert, CreateAlert, Note, Recorded, Severity, Status
from alerts_service.complaints import about_body
from alerts_service.database import AT_ONCE, Statement
from alerts_service.errors import (
    AlertNotFound,
    Conflict,
    ErrorResponse,
    Forbidden,
    Invalid,
    LineTooLong,
    OutcomeUnknown,
    Refusal,
    TooManyRequests,
    Unfinished,
)
from alerts_service.idempotency import HEADER as IDEMPOTENCY_KEY
from alerts_service.idempotency import once
from alerts_service.openapi import errors
from alerts_service.requests import Request, decoder_for
from alerts_service.responses import JSONResponse, LinesResponse, encode_lines

logger = logging.getLogger(__name__)

MOST = 1000
TENANT = "123e4567-e89b-12d3-a456-426614174000"
TAKES_LINES = {"takes_lines": CreateAlert}
RuleName = Annotated[str, Meta(min_length=1, max_length=255, pattern=NO_NUL, examples=["missed_call"])]
Moment = Annotated[datetime, Meta(tz=True)]


class CreateAlerts(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Alerts to be recorded, each the body of a `POST /alerts`."""

    alerts: Annotated[list[Raw], Meta(min_length=1, max_length=MOST)]

    # Any item is taken here and judged by itself.
    said: ClassVar[dict[str, Any]] = {
        "examples": [
            {
                "alerts": [
                    {
                        "tenant_id": TENANT,
                        "rule_name": "missed_call",
                        "message": "Missed call not returned in 15 minutes",
                    },
                    {"tenant_id": TENANT, "rule_name": "missed_call", "message": "Again", "severity": "high"},
                ]
            }
        ]
    }
    said_of: ClassVar[dict[str, Any]] = {
        "alerts": {"items": {"anyOf": [{"$ref": "#/components/schemas/CreateAlert"}, {}]}}
    }


class Filter(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which of a tenant's alerts to move on, of those that can be."""

    tenant_id: Annotated[UUID, Meta(examples=["123e4567-e89b-12d3-a456-426614174000"])]
    status: Status | None = None
    severity: Severity | None = None
    rule_name: RuleName | None = None
    created_after: Annotated[Moment | None, Meta(description="Recorded at this time or later.")] = None
    created_before: Annotated[Moment | None, Meta(description="Recorded before this time.")] = None


class MoveAlerts(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Alerts to be moved on, by their ids or by what they have in common, with one note for all."""

    ids: Annotated[list[Raw], Meta(min_length=1, max_length=MOST)] | UnsetType = UNSET
    filter: Filter | UnsetType = UNSET
    note: Note | None = None
    dry_run: Annotated[bool, Meta(description="Answer with the alerts as they stand, and change nothing.")] = False

    said_of: ClassVar[dict[str, Any]] = {"ids": {"items": {"anyOf": [{"type": "string", "format": "uuid"}, {}]}}}
    said: ClassVar[dict[str, Any]] = {
        "oneOf": [{"required": ["ids"]}, {"required": ["filter"]}],
        "examples": [
            {"filter": {"tenant_id": TENANT, "severity": "low"}, "note": "No need to call back", "dry_run": True},
            {"ids": ["0f8fad5b-d9cb-469f-a165-70867728950e"], "note": "Calling the customer back"},
        ],
    }

    def __post_init__(self) -> None:
        """Refuse what names no alerts, or names them twice."""
        if (self.ids is UNSET) == (self.filter is UNSET):
            raise ValueError("must have one of ids and filter")


class Result(Struct, frozen=True, kw_only=True):
    """What became of one item: what it would have been answered if it had come alone."""

    status: Annotated[int, Meta(examples=[201])]
    alert: Alert | UnsetType = UNSET
    error: ErrorResponse | UnsetType = UNSET
    retry_after: (
        Annotated[int, Meta(description="Seconds; there where nothing was done for want of time.")] | UnsetType
    ) = UNSET


class Results(Struct, frozen=True):
    """What became of each item, in their order."""

    results: list[Result]


class MoveResults(Struct, frozen=True):
    """What became of each item, in their order; with a filter, of the oldest that it found."""

    results: list[Result]
    more: Annotated[bool, Meta(description="Whether the filter finds more than these 1,000.")]


class LineResult(Struct, frozen=True, kw_only=True):
    """What became of one line of a stream."""

    status: int
    id: UUID | UnsetType = UNSET
    error: ErrorResponse | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET


class Found(Struct, frozen=True):
    """What a filter finds: the JSON of ids and times of the last change, and whether there are more."""

    alerts: str
    more: bool


FIND = Statement("alerts/find", Found)
STREAM = CreateAlerts(alerts=[])
ONE = decoder_for(CreateAlert)
ID = decoder_for(UUID)
FOUND = decoder_for(list[tuple[UUID, str]])

Call = dict[str, Any]


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
    async def create_alerts(self, request: Request, data: JSONBody[CreateAlerts] = STREAM) -> Response[Results]:
        """Up to 1,000, each judged by itself and answered in their order; an alert with 201 is committed.

        As `application/x-ndjson`, an alert a line, there may be any number: the answers come as a stream too, a line
        each, while the lines come in. Read them meanwhile.
        """
        return await once(request, None, _create(request, data, Admission(request)))

    @post(
        "/acknowledge",
        status_code=HTTP_200_OK,
        summary="Acknowledge alerts",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_alerts(
        self, request: Request, data: JSONBody[MoveAlerts], tenant_id: Owner = None
    ) -> Response[MoveResults]:
        """By ids, each as if it came alone, or by a filter, the oldest 1,000 of those that are still triggered."""
        tenant = request.admit(_named(data, tenant_id))
        return await once(request, tenant, _move(request, "acknowledged", data, tenant_id, tenant))

    @post(
        "/resolve",
        status_code=HTTP_200_OK,
        summary="Resolve alerts",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_alerts(
        self, request: Request, data: JSONBody[MoveAlerts], tenant_id: Owner = None
    ) -> Response[MoveResults]:
        """By ids, each as if it came alone, or by a filter, the oldest 1,000 of those that are not resolved yet."""
        tenant = request.admit(_named(data, tenant_id))
        return await once(request, tenant, _move(request, "resolved", data, tenant_id, tenant))


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
        self, request: Request, data: JSONBody[CreateAlerts] = STREAM
    ) -> Response[Results]:
        """As `POST /alerts/bulk`, for callers that hold the internal service key."""
        return await once(request, None, _create(request, data, None))

    @post(
        "/acknowledge",
        status_code=HTTP_200_OK,
        summary="Acknowledge alerts, as a service",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def acknowledge_internal_alerts(
        self, request: Request, data: JSONBody[MoveAlerts], tenant_id: Owner = None
    ) -> Response[MoveResults]:
        """As `POST /alerts/bulk/acknowledge`, for callers that hold the internal service key."""
        tenant = _named(data, tenant_id)
        return await once(request, tenant, _move(request, "acknowledged", data, tenant_id, tenant))

    @post(
        "/resolve",
        status_code=HTTP_200_OK,
        summary="Resolve alerts, as a service",
        response_description="What became of each",
        responses=errors(401, 409, 413, 415, 422, 429, 500, 503),
    )
    async def resolve_internal_alerts(
        self, request: Request, data: JSONBody[MoveAlerts], tenant_id: Owner = None
    ) -> Response[MoveResults]:
        """As `POST /alerts/bulk/resolve`, for callers that hold the internal service key."""
        tenant = _named(data, tenant_id)
        return await once(request, tenant, _move(request, "resolved", data, tenant_id, tenant))


class Admission:
    """Whose alerts a request may record. Each tenant that it names counts as one call of it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.begin()

    def begin(self) -> None:
        """Count anew, and admit the token's tenant, if there is one.

        Raises:
            TooManyRequests: it has called too often.
        """
        self._refusals: dict[UUID, Refusal | None] = {}
        own = self._request.admit(None)
        if own is not None:
            self._refusals[own] = None

    def check(self, tenant_id: UUID) -> None:
        """Admit a tenant that an item names.

        Raises:
            Forbidden: the token is another's.
            TooManyRequests: this tenant has called too often.
        """
        if tenant_id not in self._refusals:
            self._refusals[tenant_id] = self._refusal(tenant_id)
        if refusal := self._refusals[tenant_id]:
            raise refusal

    def _refusal(self, tenant_id: UUID) -> Refusal | None:
        if self._request.tenant is not None:
            return Forbidden("tenant_id: must be the token's own tenant")
        try:
            self._request.admit(tenant_id)
        except TooManyRequests as refusal:
            return refusal
        return None


async def _create(request: Request, data: CreateAlerts, admission: Admission | None) -> Response[Results]:
    if not data.alerts:
        if not request.streams:
            raise Invalid("body: must not be empty")
        return LinesResponse(_record_lines(request, admission))
    outcomes = await _record(request, data.alerts, admission)
    return JSONResponse(Results([_recorded(outcome) for outcome in outcomes]))


async def _record(
    request: Request, items: Sequence[bytes | Raw], admission: Admission | None
) -> list[tuple[Call, Any] | Exception]:
    """Record what can be, and return of each item its call and what the database made of it, or what is wrong."""
    outcomes: list[Any] = [_read(request, item, admission) for item in items]
    for outcome in outcomes:
        if request.values(IDEMPOTENCY_KEY) and isinstance(outcome, TooManyRequests):
            raise outcome  # a first answer is kept: what only has to wait must not become one
    calls = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    # First those that may wait for an alert, so that nobody waits for the counts meanwhile.
    keyed = iter(await request.database.many(CREATE_DEDUPLICATED, [call for call in calls if "dedup_key" in call]))
    plain = iter(await request.database.many(CREATE, [call for call in calls if "dedup_key" not in call]))
    for place, outcome in enumerate(outcomes):
        if not isinstance(outcome, Exception):
            row = next(keyed if "dedup_key" in outcome else plain)
            outcomes[place] = row if isinstance(row, Exception) else (outcome, row)
    return outcomes


def _read(request: Request, item: bytes | Raw, admission: Admission | None) -> Call | Refusal:
    try:
        alert = _decode(ONE, item, CreateAlert)
        if admission is not None:
            admission.check(alert.tenant_id)
    except Refusal as refusal:
        return refusal
    return creation(request, alert)


def _decode(decoder: "msgspec.json.Decoder[Any]", item: bytes | Raw, type_: Any) -> Any:
    try:
        return decoder.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(about_body(error, type_)) from None
    except RecursionError:
        raise Invalid("body: nested too deeply") from None


def _recorded(outcome: tuple[Call, Any] | Exception) -> Result:
    if isinstance(outcome, Exception):
        return Result(**_failure(outcome))
    call, row = outcome
    if isinstance(row, Recorded):
        return Result(status=HTTPStatus.CREATED, alert=created(call, row))
    return Result(status=_status(call, row), alert=row)


def _status(call: Call, row: Recorded | Alert) -> HTTPStatus:
    """Tell a new alert from one that this was a repeat of."""
    return HTTPStatus.CREATED if isinstance(row, Recorded) or row.id == call["id"] else HTTPStatus.OK


async def _record_lines(request: Request, admission: Admission | None) -> AsyncIterator[bytes]:
    """Record the lines of a stream, and answer each; what is answered is committed, whatever comes then."""
    try:
        async for lines in request.lines():
            for start in range(0, len(lines), AT_ONCE):
                yield encode_lines(await _answers(request, lines[start : start + AT_ONCE], admission))
    except Unfinished:
        return
    except LineTooLong as refusal:
        yield encode_lines([LineResult(**_failure(refusal))])
    except asyncio.CancelledError:
        stopped = OutcomeUnknown("the service stops; a change may still have been made")
        yield encode_lines([LineResult(**_failure(stopped))])


async def _answers(request: Request, lines: Sequence[bytes], admission: Admission | None) -> list[LineResult]:
    try:
        if admission is not None:
            admission.begin()
        outcomes = await _record(request, lines, admission)
    except Refusal as refusal:
        return [LineResult(**_failure(refusal))] * len(lines)
    return [
        LineResult(**_failure(outcome))
        if isinstance(outcome, Exception)
        else LineResult(
            status=_status(*outcome), id=outcome[1].id if isinstance(outcome[1], Alert) else outcome[0]["id"]
        )
        for outcome in outcomes
    ]


def _named(data: MoveAlerts, tenant_id: UUID | None) -> UUID | None:
    return tenant_id if data.filter is UNSET else data.filter.tenant_id


async def _move(
    request: Request, to: Status, data: MoveAlerts, named: UUID | None, tenant_id: UUID | None
) -> Response[MoveResults]:
    """Move on what is asked for, of the tenant that was admitted."""
    outcomes: list[Any] = []
    more = False
    if data.ids is not UNSET:
        ids = [_read_id(item) for item in data.ids]
        asked = [id_ for id_ in ids if not isinstance(id_, Exception)]
        move_on = (
            _look(request, asked, tenant_id) if data.dry_run else _change(request, to, asked, tenant_id, data.note)
        )
        alerts = iter(await move_on)
        outcomes = [id_ if isinstance(id_, Exception) else next(alerts) for id_ in ids]
    elif data.filter is not UNSET and named in {None, data.filter.tenant_id}:
        found, more = await _find(request, to, data.filter, tenant_id)
        if data.dry_run:
            outcomes = await _look(request, [id_ for id_, _ in found], tenant_id)
        else:
            outcomes = await _change_found(request, to, found, tenant_id, data.note)
    return JSONResponse(MoveResults([_moved(outcome) for outcome in outcomes], more))


def _read_id(item: Raw) -> UUID | Refusal:
    try:
        id_: UUID = ID.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Invalid("id: Invalid UUID")
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


async def _look(request: Request, ids: Sequence[UUID], tenant_id: UUID | None) -> list[Alert | Exception]:
    found = await request.database.many(GET, [{"id": id_, "tenant_id": tenant_id} for id_ in ids])
    return [AlertNotFound() if alert is None else alert for alert in found]


async def _change(
    request: Request, to: Status, ids: Sequence[UUID], tenant_id: UUID | None, note: str | None
) -> list[Alert | Exception]:
    """Move alerts on, and look at those that did not move as the single route does."""
    calls = [move(request, id_, tenant_id, note=note) for id_ in ids]
    changed = await request.database.many(MOVES[to], calls)
    left = [id_ for id_, alert in zip(ids, changed, strict=True) if alert is None]
    looked = dict(zip(left, await _look(request, left, tenant_id), strict=True))
    again = [id_ for id_, alert in looked.items() if to == "acknowledged" and _is_triggered(alert)]
    if again:  # by repeats that came in between
        looked.update(zip(again, await _change(request, to, again, tenant_id, note), strict=True))
    return [_stand(looked[id_], to, note) if alert is None else alert for id_, alert in zip(ids, changed, strict=True)]


async def _change_found(
    request: Request, to: Status, found: Sequence[tuple[UUID, str]], tenant_id: UUID | None, note: str | None
) -> list[Alert | Exception]:
    """Move on what is still as it was found; of what has changed meanwhile the filter may no longer be true."""
    calls = [move(request, id_, tenant_id, note=note, if_match=f'"{changed_at}"') for id_, changed_at in found]
    return [alert for alert in await request.database.many(MOVES[to], calls) if alert is not None]


def _is_triggered(alert: Alert | Exception) -> bool:
    return isinstance(alert, Alert) and alert.status == "triggered"


def _stand(alert: Alert | Exception, to: Status, note: str | None) -> Alert | Exception:
    if isinstance(alert, Exception):
        return alert
    try:
        return unmoved(alert, to, note)
    except Conflict as refusal:
        return refusal


def _moved(outcome: Alert | Exception) -> Result:
    if isinstance(outcome, Exception):
        return Result(**_failure(outcome))
    return Result(status=HTTPStatus.OK, alert=outcome)


def _failure(error: Exception) -> dict[str, Any]:
    """Say of one item what its own request would have been answered."""
    if not isinstance(error, Refusal):
        logger.error("Unforeseen error in a bulk request", exc_info=error)
        return {"status": HTTPStatus.INTERNAL_SERVER_ERROR, "error": ErrorResponse("Internal server error", None)}
    said: dict[str, Any] = {"status": error.status, "error": ErrorResponse(error.error, error.detail)}
    if seconds := error.headers.get("Retry-After"):
        said["retry_after"] = int(seconds)
    return said
