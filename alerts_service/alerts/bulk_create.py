"""Many alerts to be recorded for one request, each judged by itself."""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias
from uuid import UUID

from msgspec import Raw

from alerts_service.alerts.statements import CREATE, CREATE_DEDUPLICATED, create_parameters
from alerts_service.alerts.structs import Alert, CreateAlert, Created
from alerts_service.db.fair_queue import QueueFull, QueueTimeout
from alerts_service.errors import ApiError, Forbidden, ServiceOverloaded, TooManyRequests, ValidationFailed
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request, decode_item

Call: TypeAlias = dict[str, Any]

READ_AT_ONCE = 20  # items that are read before other requests go on, about 0.3 ms


class Admission:
    """Whose alerts a request may record. From each begin on each tenant that it names counts as one call of it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._refusals: dict[UUID, ApiError | None] = {}

    def begin(self) -> None:
        """Count anew, and admit the token's tenant, if there is one.

        Raises:
            InvalidToken: the token has expired.
            TooManyRequests: it has called too often.
        """
        self._request.check_token()
        self._refusals.clear()
        rate_limit(self._request, None)
        if self._request.tenant is not None:
            self._refusals[self._request.tenant] = None

    def refusal(self, tenant_id: UUID) -> ApiError | None:
        """Count a call of a tenant that an item names, once, and return the error that rejects it, or None.

        That is Forbidden where the token is another's, and TooManyRequests where the tenant has called too often.
        """
        if tenant_id not in self._refusals:
            self._refusals[tenant_id] = self._refusal(tenant_id)
        return self._refusals[tenant_id]

    def _refusal(self, tenant_id: UUID) -> ApiError | None:
        if self._request.tenant is not None:
            return Forbidden("tenant_id: must be the token's own tenant")
        try:
            rate_limit(self._request, tenant_id)
        except TooManyRequests as refusal:
            return refusal.with_traceback(None)  # see `decode_item`
        return None


def read(request: Request, item: bytes | Raw, admission: Admission | None) -> Call | ApiError:
    """Make the call that records an item, or tell why there is none."""
    alert: CreateAlert | ValidationFailed = decode_item(CreateAlert, item)
    if isinstance(alert, ValidationFailed):
        return alert
    if admission is not None and (refusal := admission.refusal(alert.tenant_id)):
        return refusal
    return create_parameters(request, alert)


async def read_list(request: Request, items: Sequence[Raw], admission: Admission | None) -> list[Call | ApiError]:
    """Decode a list. Lists are decoded one at a time, in turn by tenant, so that other requests wait for one only.

    Raises:
        ServiceOverloaded: too many lists wait.
    """
    first = decode_item(CreateAlert, items[0])
    tenant = request.tenant or (None if isinstance(first, ValidationFailed) else first.tenant_id)
    try:
        async with request.holding_body(), request.app.state.bulk_decoding.slot(tenant):
            return await read_all(request, items, admission)
    except (QueueFull, QueueTimeout):
        raise ServiceOverloaded("too many bulk lists wait") from None


async def read_all(
    request: Request, items: Sequence[bytes | Raw], admission: Admission | None
) -> list[Call | ApiError]:
    """Decode items in chunks, with other requests served between them."""
    calls: list[Call | ApiError] = []
    for start in range(0, len(items), READ_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        calls += [read(request, item, admission) for item in items[start : start + READ_AT_ONCE]]
    return calls


async def record(
    request: Request, calls: Sequence[Call | ApiError], keep: Callable[[Alert], Alert | UUID]
) -> list[tuple[Call, Created | Alert | UUID] | Exception]:
    """Record what can be, and return of each call what the database made of it, or what is wrong.

    Of an alert with a `dedup_key`, which may be an older and larger one, that is what `keep` returns.
    """
    good = [call for call in calls if not isinstance(call, Exception)]
    # First those that may wait for an alert, so that nobody waits for the counts meanwhile.
    keyed = iter(await request.database.many(CREATE_DEDUPLICATED, [call for call in good if "dedup_key" in call], keep))
    plain = iter(await request.database.many(CREATE, [call for call in good if "dedup_key" not in call], _whole))
    outcomes: list[tuple[Call, Any] | Exception] = []
    for call in calls:
        if isinstance(call, Exception):
            outcomes.append(call)
            continue
        row = next(keyed if "dedup_key" in call else plain)
        outcomes.append(row if isinstance(row, Exception) else (call, row))
    return outcomes


def status(call: Call, row: Created | Alert | UUID) -> HTTPStatus:
    """Tell a new alert from one that this was a repeat of."""
    return HTTPStatus.CREATED if id_of(call, row) == call["id"] else HTTPStatus.OK


def id_of(call: Call, row: Created | Alert | UUID) -> UUID:
    """Return the id of the alert that a call has recorded or repeated."""
    if isinstance(row, Created):
        id_: UUID = call["id"]
        return id_
    return row.id if isinstance(row, Alert) else row


def _whole(row: Created) -> Created:
    return row
