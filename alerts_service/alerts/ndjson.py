"""Creation of alerts from an NDJSON stream of any length. The next chunk is prefetched while a chunk is inserted."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from operator import attrgetter
from typing import TypeAlias

from litestar import Response

from alerts_service.alerts.bulk_authorizer import TenantAuthorizer
from alerts_service.alerts.bulk_create import (
    CreateOutcome,
    creation_status,
    decode_alerts,
    insert_alerts,
    stored_id,
)
from alerts_service.alerts.bulk_results import error_fields
from alerts_service.alerts.bulk_structs import BulkResults, LineResult
from alerts_service.alerts.statements import CreateParameters
from alerts_service.db.statement_runner import BULK_BATCH_SIZE
from alerts_service.errors import (
    SHUTTING_DOWN,
    ApiError,
    IncompleteBody,
    InvalidToken,
    LineTooLong,
    MalformedRequest,
    OutcomeUnknown,
    RequestTimeout,
    TooManyRequests,
)
from alerts_service.web.idempotency import idempotent
from alerts_service.web.requests import Request
from alerts_service.web.responses import NdjsonResponse, encode_lines

# The decoded lines of a chunk, or the end of the stream: None, or the exception that ended the stream.
Chunk: TypeAlias = list[CreateParameters | ApiError] | Exception | None


async def create_from_stream(request: Request, authorizer: TenantAuthorizer | None) -> Response[BulkResults]:
    """Create the alerts of an NDJSON stream. Without an `authorizer` every tenant is allowed.

    The caller has started the first chunk with `authorizer.start_chunk`, so that 401 or 429 is the status of the
    response.

    Raises:
        ValidationFailed: The request has an Idempotency-Key.
    """
    # `idempotent` rejects an Idempotency-Key of a stream.
    return await idempotent(request, None, partial(_respond, request, authorizer))


async def _respond(request: Request, authorizer: TenantAuthorizer | None) -> Response[BulkResults]:
    return NdjsonResponse(_results(request, authorizer))


async def _results(request: Request, authorizer: TenantAuthorizer | None) -> AsyncGenerator[bytes, None]:
    """Yield the results of each chunk after its alerts are committed.

    A line that is too long and an expired token have a last result. A timeout and malformed HTTP also have a last
    result, or are the status of the response if no result was sent. After a disconnect, nothing is sent.
    """
    chunks: asyncio.Queue[Chunk] = asyncio.Queue(maxsize=1)
    prefetching = asyncio.create_task(_prefetch(request, authorizer, chunks))
    has_started = False
    try:
        while isinstance(chunk := await request.wait_for_client(chunks.get(), "the next line"), list):
            outcomes = await insert_alerts(request, chunk, attrgetter("id"))
            request.log_failure_reason(outcomes)
            yield encode_lines([_line_result(outcome) for outcome in outcomes])
            has_started = True
        if isinstance(chunk, (LineTooLong, InvalidToken)):
            yield encode_lines([LineResult(**error_fields(chunk))])
        elif chunk is not None and not isinstance(chunk, IncompleteBody):
            raise chunk
    except (MalformedRequest, RequestTimeout) as error:
        if not has_started:
            raise
        yield encode_lines([LineResult(**error_fields(error))])
    except asyncio.CancelledError:
        # uvicorn cancels requests only at the end of a shutdown, so every cancellation is reported as a shutdown.
        yield encode_lines([LineResult(**error_fields(OutcomeUnknown(SHUTTING_DOWN)))])
    finally:
        prefetching.cancel()
        await asyncio.wait({prefetching})


async def _prefetch(request: Request, authorizer: TenantAuthorizer | None, chunks: "asyncio.Queue[Chunk]") -> None:
    """Put the decoded chunks of the stream into a queue, and then the end of the stream."""
    end: Chunk = None
    is_first = True
    try:
        async for lines in request.lines():
            for start in range(0, len(lines), BULK_BATCH_SIZE):
                chunk = lines[start : start + BULK_BATCH_SIZE]
                await chunks.put(await _decode_chunk(request, chunk, authorizer, is_first=is_first))
                is_first = False
    except Exception as error:  # noqa: BLE001 - any error must end the stream: `_results` reads it from the queue and raises it
        end = error
    await chunks.put(end)


async def _decode_chunk(
    request: Request, lines: Sequence[bytes], authorizer: TenantAuthorizer | None, *, is_first: bool
) -> list[CreateParameters | ApiError]:
    try:
        if authorizer is not None and not is_first:
            authorizer.start_chunk()
    except TooManyRequests as error:
        return [error] * len(lines)
    return await decode_alerts(request, lines, authorizer)


def _line_result(outcome: CreateOutcome) -> LineResult:
    if isinstance(outcome, Exception):
        return LineResult(**error_fields(outcome))
    parameters, row = outcome
    return LineResult(status=creation_status(parameters, row), id=stored_id(parameters, row))
