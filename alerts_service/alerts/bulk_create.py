"""Creation of many alerts in one request. The response contains one result for each alert."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias
from uuid import UUID

from litestar import Response
from msgspec import Raw
from msgspec.structs import asdict

from alerts_service.alerts.bulk_authorizer import TenantAuthorizer
from alerts_service.alerts.bulk_results import (
    AlertSizeLimit,
    encode_results,
    ensure_send_buffer_room,
    error_fields,
    success,
)
from alerts_service.alerts.bulk_structs import BulkResult, BulkResults
from alerts_service.alerts.statements import (
    CREATE,
    CREATE_DEDUPLICATED,
    CreateDeduplicatedParameters,
    CreateParameters,
    create_parameters,
    to_alert,
)
from alerts_service.alerts.structs import Alert, CreateAlert, CreatedRow
from alerts_service.db.fair_queue import QueueFull, QueueTimeout
from alerts_service.errors import ApiError, ServiceOverloaded, TooManyRequests, ValidationFailed
from alerts_service.web.idempotency import KEY_HEADER, idempotent
from alerts_service.web.requests import Request, decode_item
from alerts_service.web.responses import JSONResponse

# The parameters of an alert with the row that the database returned, or the error that prevented the creation.
CreateOutcome: TypeAlias = tuple[CreateParameters, CreatedRow | Alert | UUID] | Exception

# Items that are decoded without a pause: about 0.3 ms. Other requests run between two slices.
DECODE_SLICE_SIZE = 20


async def create_from_list(
    request: Request, items: Sequence[Raw], authorizer: TenantAuthorizer | None
) -> Response[BulkResults]:
    """Create the alerts of a JSON list. Without an `authorizer` every tenant is allowed.

    Raises:
        ServiceOverloaded: The send buffer is full, or too many bulk requests are queued.
        TooManyRequests: The request has an Idempotency-Key, and a tenant in the list has reached its rate limit.
    """
    ensure_send_buffer_room(request)
    # The list is decoded before `idempotent` takes a database connection, because decoding may wait in the queue.
    decoded = await _decode_in_queue(request, items, authorizer)
    if request.header_values(KEY_HEADER):
        for item in decoded:
            if isinstance(item, TooManyRequests):
                raise item  # a stored response would repeat this temporary error
    return await idempotent(
        request, None, partial(_respond, request, decoded), find_tenant=partial(_first_tenant, decoded)
    )


async def _respond(request: Request, decoded: Sequence[CreateParameters | ApiError]) -> Response[BulkResults]:
    outcomes = await insert_alerts(request, decoded, AlertSizeLimit().alert_or_id)
    request.log_failure_reason(outcomes)
    return JSONResponse(BulkResults(await encode_results(map(_result, outcomes))))


async def _first_tenant(decoded: Sequence[CreateParameters | ApiError]) -> UUID | None:
    return next((item.tenant_id for item in decoded if not isinstance(item, Exception)), None)


async def _decode_in_queue(
    request: Request, items: Sequence[Raw], authorizer: TenantAuthorizer | None
) -> list[CreateParameters | ApiError]:
    """Decode a list when no other list is being decoded, round-robin by tenant.

    Other requests therefore use each pause of `decode_alerts`.
    """
    first = decode_item(CreateAlert, items[0])
    tenant = request.tenant or (None if isinstance(first, ValidationFailed) else first.tenant_id)
    try:
        async with request.holding_body(), request.app.state.bulk_decoding.slot(tenant):
            return await decode_alerts(request, items, authorizer)
    except (QueueFull, QueueTimeout):
        raise ServiceOverloaded("too many bulk requests are queued") from None


async def decode_alerts(
    request: Request, items: Sequence[bytes | Raw], authorizer: TenantAuthorizer | None
) -> list[CreateParameters | ApiError]:
    """Decode items in slices. Other requests run between two slices."""
    decoded: list[CreateParameters | ApiError] = []
    for start in range(0, len(items), DECODE_SLICE_SIZE):
        if start:
            await asyncio.sleep(0)
        decoded += [_decode_alert(request, item, authorizer) for item in items[start : start + DECODE_SLICE_SIZE]]
    return decoded


def _decode_alert(
    request: Request, item: bytes | Raw, authorizer: TenantAuthorizer | None
) -> CreateParameters | ApiError:
    """Return the SQL parameters of an item, or the error that rejects the item."""
    alert: CreateAlert | ValidationFailed = decode_item(CreateAlert, item)
    if isinstance(alert, ValidationFailed):
        return alert
    if authorizer is not None and (error := authorizer.error_for(alert.tenant_id)):
        return error
    return create_parameters(request, alert)


async def insert_alerts(
    request: Request,
    decoded: Sequence[CreateParameters | ApiError],
    convert: Callable[[Alert], Alert | UUID],
) -> list[CreateOutcome]:
    """Insert the alerts that were decoded, and return the outcome of each item in the order of the items.

    The row of an alert with a `dedup_key` may be an older, larger alert. `convert` is applied to each such row when its
    batch is read, which limits the memory that the rows take.
    """
    parameters = [item for item in decoded if not isinstance(item, Exception)]
    deduplicated = [asdict(each) for each in parameters if isinstance(each, CreateDeduplicatedParameters)]
    plain = [asdict(each) for each in parameters if not isinstance(each, CreateDeduplicatedParameters)]
    # Deduplicated alerts first: they may wait for the lock of an alert. With an Idempotency-Key both statements are in
    # one transaction, which would hold the locks of the counters during that wait.
    deduplicated_rows = iter(await request.database.many(CREATE_DEDUPLICATED, deduplicated, convert))
    plain_rows = iter(await request.database.many(CREATE, plain, _unchanged))
    outcomes: list[CreateOutcome] = []
    for item in decoded:
        if isinstance(item, Exception):
            outcomes.append(item)
            continue
        row: Any = next(deduplicated_rows if isinstance(item, CreateDeduplicatedParameters) else plain_rows)
        outcomes.append(row if isinstance(row, Exception) else (item, row))
    return outcomes


def creation_status(parameters: CreateParameters, row: CreatedRow | Alert | UUID) -> HTTPStatus:
    """Return 201 for a new alert, and 200 for a duplicate."""
    return HTTPStatus.CREATED if stored_id(parameters, row) == parameters.id else HTTPStatus.OK


def stored_id(parameters: CreateParameters, row: CreatedRow | Alert | UUID) -> UUID:
    """Return the id of the new alert, or for a duplicate the id of the open alert."""
    if isinstance(row, CreatedRow):
        return parameters.id
    return row.id if isinstance(row, Alert) else row


def _result(outcome: CreateOutcome) -> BulkResult:
    if isinstance(outcome, Exception):
        return BulkResult(**error_fields(outcome))
    parameters, row = outcome
    if isinstance(row, CreatedRow):
        return BulkResult(status=HTTPStatus.CREATED, alert=to_alert(parameters, row))
    return success(creation_status(parameters, row), row)


def _unchanged(row: CreatedRow) -> CreatedRow:
    return row
