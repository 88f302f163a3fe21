"""Results of bulk requests: conversion of outcomes into results, the size limit of a response, and the encoding."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from itertools import islice
from typing import Any
from uuid import UUID

from msgspec import Raw

from alerts_service.alerts.bulk_structs import BulkResult
from alerts_service.alerts.structs import Alert
from alerts_service.errors import SEND_BUFFER_FULL, ApiError, ErrorResponse, ServiceOverloaded, UnexpectedError
from alerts_service.web.requests import Request
from alerts_service.web.responses import PIECE_BYTES, encode

# Results beyond this size contain the id of an alert in place of the alert.
MAX_COMPLETE_BYTES = 4 * 1024 * 1024

# Encoding 1,000 results takes 0.49 ms at once, 0.65 ms in chunks of 10, and 0.9 ms one by one. The request takes 45 ms.
ENCODE_CHUNK_SIZE = 10


class AlertSizeLimit:
    """Limit of the memory that the rows of one `many` call take. After 4 Mi characters, only ids of alerts are kept.

    The JSON of an alert is never shorter than its texts, so `encode_results` would omit nearly all of these alerts.
    """

    def __init__(self) -> None:
        self._remaining = MAX_COMPLETE_BYTES

    def alert_or_id(self, alert: Alert) -> Alert | UUID:
        """Return the alert until the limit is reached, and afterwards only the id of the alert."""
        if self._remaining <= 0:
            return alert.id
        texts = (alert.message, alert.acknowledgment_note or "", alert.resolution_note or "")
        self._remaining -= sum(map(len, texts))
        return alert


def success(status: HTTPStatus, alert: Alert | UUID) -> BulkResult:
    """Return the result of an item that succeeded."""
    return BulkResult(status=status, id=alert) if isinstance(alert, UUID) else BulkResult(status=status, alert=alert)


def error_fields(error: Exception) -> dict[str, Any]:
    """Return the fields of the result of an item that failed, as in the response to a request for this item alone."""
    if not isinstance(error, ApiError):
        return {"status": UnexpectedError.status, "error": ErrorResponse(UnexpectedError.error, None)}
    fields: dict[str, Any] = {"status": error.status, "error": ErrorResponse(error.error, error.detail)}
    if seconds := error.headers.get("Retry-After"):
        fields["retry_after"] = int(seconds)
    return fields


async def encode_results(results: Iterable[BulkResult]) -> Any:
    """Encode a list of results in chunks. Other requests run after each 64 KiB.

    Beyond 4 MiB, results contain the id of an alert in place of the alert.
    """
    body = bytearray(b"[]")
    bytes_since_pause = 0
    remaining = iter(results)
    while chunk := list(islice(remaining, ENCODE_CHUNK_SIZE)):
        if len(body) > MAX_COMPLETE_BYTES:
            chunk = [result.without_alert() for result in chunk]
        encoded = encode(chunk)
        body[-1:] = b"," if len(body) > len("[]") else b""
        body += memoryview(encoded)[1:]
        bytes_since_pause += len(encoded)
        if bytes_since_pause > PIECE_BYTES:
            await asyncio.sleep(0)
            bytes_since_pause = 0
    return Raw(body)


def ensure_send_buffer_room(request: Request) -> None:
    """Reject a request with a possibly large response before the request changes anything.

    Raises:
        ServiceOverloaded: The send buffer has no room for the response.
    """
    if not request.app.state.send_buffer.make_room():
        raise ServiceOverloaded(SEND_BUFFER_FULL)
