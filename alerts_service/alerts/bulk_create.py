"""Many alerts to be recorded for one request, each judged by itself."""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias
from uuid import UUID

from msgspec import Raw

from alerts_service.alerts.statements import CREATE, CREATE_DEDUPLICATED, creation
from alerts_service.alerts.structs import Alert, CreateAlert, Recorded
from alerts_service.db.batching import Full, Late
from alerts_service.errors import Crowded, Forbidden, Invalid, Refusal, TooManyRequests
from alerts_service.web.requests import Request, decode_item

Call: TypeAlias = dict[str, Any]

READ_AT_ONCE = 20  # items that are read before other requests go on, about 0.3 ms


class Admission:
    """Whose alerts a request may record. From each begin on each tenant that it names counts as one call of it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._refusals: dict[UUID, Refusal | None] = {}

    def begin(self) -> None:
        """Count anew, and admit the token's tenant, if there is one.

        Raises:
            TokenRefused: the token has expired.
            TooManyRequests: it has called too often.
        """
        self._request.check_token()
        self._refusals.clear()
        own = self._request.admit(None)
        if own is not None:
            self._refusals[own] = None

    def refusal(self, tenant_id: UUID) -> Refusal | None:
        """Count a call of a tenant that an item names, once, and return the error that rejects it, or None.

        That is Forbidden where the token is another's, and TooManyRequests where the tenant has called too often.
        """
        if tenant_id not in self._refusals:
            self._refusals[tenant_id] = self._refusal(tenant_id)
        return self._refusals[tenant_id]

    def _refusal(self, tenant_id: UUID) -> Refusal | None:
        if self._request.tenant is not None:
            return Forbidden("tenant_id: must be the token's own tenant")
        try:
            self._request.admit(tenant_id)
        except TooManyRequests as refusal:
            return refusal.with_traceback(None)  # see `decode_item`
        return None


def read(request: Request, item: bytes | Raw, admission: Admission | None) -> Call | Refusal:
    """Make the call that records an item, or tell why there is none."""
    alert: CreateAlert | Invalid = decode_item(CreateAlert, item)
    if isinstance(alert, Invalid):
        return alert
    if admission is not None and (refusal := admission.refusal(alert.tenant_id)):
        return refusal
    return creation(request, alert)


async def read_list(request: Request, items: Sequence[Raw], admission: Admission | None) -> list[Call | Refusal]:
    """Decode a list. Lists are decoded one at a time, in turn by tenant, so that other requests wait for one only.

    Raises:
        Crowded: too many lists wait.
    """
    first = decode_item(CreateAlert, items[0])
    tenant = request.tenant or (None if isinstance(first, Invalid) else first.tenant_id)
    try:
        async with request.holding_body(), request.app.state.reading.turn(tenant):
            return await read_all(request, items, admission)
    except (Full, Late):
        raise Crowded("too many bulk lists wait") from None


async def read_all(request: Request, items: Sequence[bytes | Raw], admission: Admission | None) -> list[Call | Refusal]:
    """Decode items in chunks, with other requests served between them."""
    calls: list[Call | Refusal] = []
    for start in range(0, len(items), READ_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        calls += [read(request, item, admission) for item in items[start : start + READ_AT_ONCE]]
    return calls


async def record(
    request: Request, calls: Sequence[Call | Refusal], keep: Callable[[Alert], Alert | UUID]
) -> list[tuple[Call, Recorded | Alert | UUID] | Exception]:
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


def status(call: Call, row: Recorded | Alert | UUID) -> HTTPStatus:
    """Tell a new alert from one that this was a repeat of."""
    return HTTPStatus.CREATED if id_of(call, row) == call["id"] else HTTPStatus.OK


def id_of(call: Call, row: Recorded | Alert | UUID) -> UUID:
    """Return the id of the alert that a call has recorded or repeated."""
    if isinstance(row, Recorded):
        id_: UUID = call["id"]
        return id_
    return row.id if isinstance(row, Alert) else row


def _whole(row: Recorded) -> Recorded:
    return row
