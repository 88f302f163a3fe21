"""Status transitions of many alerts in one request. The response contains one result for each alert."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
from litestar import Response
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import asdict

from alerts_service.alerts.bulk_results import (
    AlertSizeLimit,
    encode_results,
    ensure_send_buffer_room,
    error_fields,
    success,
)
from alerts_service.alerts.bulk_structs import AlertFilter, BulkResult, BulkTransition, BulkTransitionResults
from alerts_service.alerts.statements import GET, TRANSITIONS, ensure_in_state, find_tenant, transition_parameters
from alerts_service.alerts.structs import Alert, Severity, Status
from alerts_service.db.statements import Statement
from alerts_service.errors import AlertNotFound, ApiError, Conflict, ValidationFailed
from alerts_service.web.idempotency import idempotent
from alerts_service.web.requests import Request, decoder_for
from alerts_service.web.responses import JSONResponse

# Alerts that one statement fetches. An alert may have 120 kB.
GET_BATCH_SIZE = 50


class FilterMatches(Struct, frozen=True):
    """The alerts that match a filter: pairs of `id` and `updated_at` as JSON, and whether more alerts match."""

    alerts: str
    more: bool


class FindParameters(TypedDict):
    """Parameters of alerts/find."""

    tenant_id: UUID
    target_status: Status
    status: Status | None
    severity: Severity | None
    rule_name: str | None
    created_after: datetime | None
    created_before: datetime | None


FIND = Statement("alerts/find", FilterMatches, parameters=FindParameters)
ID_DECODER = decoder_for(UUID)
MATCHES_DECODER = decoder_for(list[tuple[UUID, str]])


class TransitionContext(NamedTuple):
    """A status transition that a request applies, limited to the alerts of `tenant_id` unless `tenant_id` is None."""

    request: Request
    to: Status
    tenant_id: UUID | None
    note: str | None

    def parameters(self, alert_id: UUID, *, if_match: str | None = None) -> dict[str, Any]:
        """Return the SQL parameters of the transition of one alert."""
        return asdict(transition_parameters(self.request, alert_id, self.tenant_id, note=self.note, if_match=if_match))

    def outcome_if_unchanged(self, alert: Alert) -> Alert | Conflict:
        """Return the outcome for an alert that the transition did not change: the alert, or Conflict."""
        try:
            return ensure_in_state(alert, self.to, self.note)
        except Conflict as error:
            return error.with_traceback(None)  # a traceback would keep the alert in memory


async def transition_alerts(
    request: Request,
    to: Status,
    data: BulkTransition,
    *,
    query_tenant: UUID | None,
    named_tenant: UUID | None,
) -> Response[BulkTransitionResults]:
    """Apply a transition to the alerts that have one of the ids or match the filter.

    Only alerts of the token's tenant are known, or without a token only alerts of `named_tenant`, if any.
    `query_tenant` is the query parameter. `named_tenant` is the tenant of the filter, or `query_tenant` if there is no
    filter. If both differ, no alert matches.

    Raises:
        ServiceOverloaded: The send buffer is full.
    """
    transition = TransitionContext(request, to, request.authorize_tenant(named_tenant), data.note)
    ids = [] if data.ids is UNSET else [_decode_id(item) for item in data.ids]
    return await idempotent(
        request,
        named_tenant,
        partial(_respond, transition, data, ids, query_tenant),
        find_tenant=lambda: find_tenant(request, _valid(ids)),
        dry_run=data.dry_run,
    )


async def _respond(
    transition: TransitionContext, data: BulkTransition, ids: Sequence[UUID | ApiError], query_tenant: UUID | None
) -> Response[BulkTransitionResults]:
    ensure_send_buffer_room(transition.request)
    outcomes: list[Any] = []
    more = False
    if ids:
        distinct_ids = list(dict.fromkeys(_valid(ids)))
        change = _preview_by_id if data.dry_run else _change_by_id
        by_id = dict(zip(distinct_ids, await change(transition, distinct_ids), strict=True))
        outcomes = [id_ if isinstance(id_, Exception) else by_id[id_] for id_ in ids]
    elif data.filter is not UNSET and query_tenant in {None, data.filter.tenant_id}:
        matches, more = await _find_matches(transition, data.filter)
        if data.dry_run:
            outcomes = await _fetch_alerts(transition, [id_ for id_, _ in matches], lambda alert: alert)
        else:
            outcomes = await _change_matches(transition, matches)
            more = more or len(outcomes) < len(matches)
    transition.request.log_failure_reason(outcomes)
    return JSONResponse(BulkTransitionResults(await encode_results(map(_result, outcomes)), more))


def _decode_id(item: Raw) -> UUID | ApiError:
    try:
        id_: UUID = ID_DECODER.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ValidationFailed("id: must be a UUID")
    return id_


def _valid(ids: Sequence[UUID | ApiError]) -> list[UUID]:
    return [id_ for id_ in ids if isinstance(id_, UUID)]


async def _find_matches(transition: TransitionContext, filter_: AlertFilter) -> tuple[list[tuple[UUID, str]], bool]:
    """Return `id` and `updated_at` of the oldest alerts that match, and whether more alerts match."""
    parameters: FindParameters = {
        "tenant_id": transition.tenant_id or filter_.tenant_id,
        "target_status": transition.to,
        "status": filter_.status,
        "severity": filter_.severity,
        "rule_name": filter_.rule_name,
        "created_after": filter_.created_after,
        "created_before": filter_.created_before,
    }
    matches = await transition.request.database.one(FIND, **parameters)
    return MATCHES_DECODER.decode(matches.alerts), matches.more


async def _fetch_alerts(
    transition: TransitionContext, ids: Sequence[UUID], check: Callable[[Alert], Alert | Exception | UnsetType]
) -> list[Any]:
    """Fetch alerts, and return the result of `check` for each alert, or AlertNotFound.

    Beyond the size limit, an alert that `check` returns is replaced by its id.
    """
    limit = AlertSizeLimit()

    def convert(alert: Alert) -> Alert | UUID | Exception | UnsetType:
        outcome = check(alert)
        return limit.alert_or_id(outcome) if isinstance(outcome, Alert) else outcome

    parameters = [{"id": id_, "tenant_id": transition.tenant_id} for id_ in ids]
    outcomes = await transition.request.database.many(GET, parameters, convert, batch_size=GET_BATCH_SIZE)
    return [AlertNotFound() if outcome is None else outcome for outcome in outcomes]


async def _preview_by_id(transition: TransitionContext, ids: Sequence[UUID]) -> list[Alert | UUID | Exception]:
    """Return the outcomes that `_change_by_id` would return, with the alerts in their present state."""
    changeable = {"triggered", "acknowledged"} if transition.to == "resolved" else {"triggered"}

    def check(alert: Alert) -> Alert | Exception:
        return alert if alert.status in changeable else transition.outcome_if_unchanged(alert)

    return await _fetch_alerts(transition, ids, check)


async def _change_by_id(transition: TransitionContext, ids: Sequence[UUID]) -> list[Alert | UUID | Exception]:
    """Change alerts, and return for each the outcome of the operation for a single alert. The ids are distinct."""

    def check(alert: Alert) -> Alert | Exception | UnsetType:
        """Return UNSET if a duplicate triggered the alert again after the attempt: the transition is repeated."""
        retriggered = transition.to == "acknowledged" and alert.status == "triggered"
        return UNSET if retriggered else transition.outcome_if_unchanged(alert)

    outcomes: dict[UUID, Any] = {}
    remaining = ids
    while remaining:
        parameters = [transition.parameters(id_) for id_ in remaining]
        changed = await transition.request.database.many(
            TRANSITIONS[transition.to], parameters, AlertSizeLimit().alert_or_id
        )
        outcomes.update(zip(remaining, changed, strict=True))
        unchanged = [id_ for id_ in remaining if outcomes[id_] is None]
        outcomes.update(zip(unchanged, await _fetch_alerts(transition, unchanged, check), strict=True))
        remaining = [id_ for id_ in unchanged if outcomes[id_] is UNSET]
    return [outcomes[id_] for id_ in ids]


async def _change_matches(
    transition: TransitionContext, matches: Sequence[tuple[UUID, str]]
) -> list[Alert | UUID | Exception]:
    """Change the alerts that matched a filter. Skip alerts that have changed since, as they may no longer match."""
    parameters = [transition.parameters(id_, if_match=f'"{updated_at}"') for id_, updated_at in matches]
    changed = await transition.request.database.many(
        TRANSITIONS[transition.to], parameters, AlertSizeLimit().alert_or_id
    )
    return [alert for alert in changed if alert is not None]


def _result(outcome: Alert | UUID | Exception) -> BulkResult:
    if isinstance(outcome, Exception):
        return BulkResult(**error_fields(outcome))
    return success(HTTPStatus.OK, outcome)
