"""Alerts that come in lines, as many as there may be: while some are recorded, those behind them are read."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from alerts_service.alerts.bulk_create import Admission, Call, id_of, read_all, record, status
from alerts_service.alerts.bulk_structs import LineResult, failure
from alerts_service.db.statement_runner import BULK_BATCH_SIZE
from alerts_service.errors import ApiError, IncompleteBody, InvalidToken, LineTooLong, OutcomeUnknown, TooManyRequests
from alerts_service.web.requests import Request
from alerts_service.web.responses import encode_lines

# What was read of some lines, or how the stream ended: None in good order.
Read: TypeAlias = list[Call | ApiError] | Exception | None


async def record_lines(request: Request, admission: Admission | None) -> AsyncGenerator[bytes, None]:
    """Record the lines of a stream, and answer each; what is answered is committed, whatever comes then.

    The admission has begun, for the first part of them.
    """
    parts: asyncio.Queue[Read] = asyncio.Queue(maxsize=1)
    reading = asyncio.create_task(_read_ahead(request, admission, parts))
    try:
        while isinstance(part := await request.next_turn(parts.get()), list):
            outcomes = await record(request, part, attrgetter("id"))
            request.log_failure_reason(outcomes)
            yield encode_lines([_answer(outcome) for outcome in outcomes])
        if isinstance(part, (LineTooLong, InvalidToken)):
            yield encode_lines([LineResult(**failure(part))])
        elif part is not None and not isinstance(part, IncompleteBody):
            raise part
    except asyncio.CancelledError:
        stopped = OutcomeUnknown("the service stops; a change may still have been made")
        yield encode_lines([LineResult(**failure(stopped))])
    finally:
        reading.cancel()
        request.end_turns()


async def _read_ahead(request: Request, admission: Admission | None, parts: "asyncio.Queue[Read]") -> None:
    end: Read = None
    first = True
    try:
        async for lines in request.lines():
            for start in range(0, len(lines), BULK_BATCH_SIZE):
                await parts.put(await _read(request, lines[start : start + BULK_BATCH_SIZE], admission, first=first))
                first = False
    except Exception as error:  # noqa: BLE001 - the task that awaits the queue raises it
        end = error
    await parts.put(end)


async def _read(
    request: Request, lines: Sequence[bytes], admission: Admission | None, *, first: bool
) -> list[Call | ApiError]:
    try:
        if admission is not None and not first:
            admission.begin()
    except TooManyRequests as refusal:
        return [refusal] * len(lines)
    return await read_all(request, lines, admission)


def _answer(outcome: tuple[Call, Any] | Exception) -> LineResult:
    if isinstance(outcome, Exception):
        return LineResult(**failure(outcome))
    call, row = outcome
    return LineResult(status=status(call, row), id=id_of(call, row))
