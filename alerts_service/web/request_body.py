"""Request bodies: media type, size, buffering, and lines of NDJSON."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from litestar.types import Receive

from alerts_service.errors import (
    BODY_TOO_LARGE,
    BodyTooLarge,
    IncompleteBody,
    LineTooLong,
    ServiceOverloaded,
    UnsupportedMediaType,
)
from alerts_service.web.cross_site import Headers

MAX_BODY_BYTES = 1024 * 1024
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
JSON_TYPE = re.compile(rb"application/([\w.+-]+\+)?json\s*(;|$)", re.IGNORECASE)
NDJSON_TYPE = re.compile(rb"application/x-ndjson\s*(;|$)", re.IGNORECASE)

MEDIA_TYPES = ("application/json",)
MEDIA_TYPES_WITH_NDJSON = ("application/json", "application/x-ndjson")


class BodyBuffer:
    """Limits the total size of the request bodies that are incomplete or belong to bulk lists that are being decoded.

    The class counts bytes. The bodies themselves are not stored here.
    """

    def __init__(self, limit: int = MAX_BUFFERED_BYTES) -> None:
        self._limit = limit
        self._size = 0

    async def read(self, receive: Receive, message: Any) -> bytes:
        """Read a body up to its last message, or up to the message that exceeds 1 MiB.

        `message` is the first message, or None if no message has been received.

        Raises:
            IncompleteBody: The client disconnected.
            ServiceOverloaded: The limit is reached.
        """
        body = bytearray()
        try:
            while True:
                if message is None:
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise IncompleteBody
                chunk = message.get("body", b"")
                body += chunk
                self._size += len(chunk)
                if not message.get("more_body") or len(body) > MAX_BODY_BYTES:
                    return bytes(body)
                self._check(self._size)
                message = None
        finally:
            self._size -= len(body)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a complete body of `size` bytes until the end of the block.

        Raises:
            ServiceOverloaded: The limit is reached.
        """
        self._check(self._size + size)
        self._size += size
        try:
            yield
        finally:
            self._size -= size

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ServiceOverloaded(f"the buffer for request bodies is full ({self._limit // 1024**2} MiB)")


def receive_at_once(receive: Receive) -> Any:
    """Return the next message if the message has arrived, else None.

    A request whose body arrives with its head therefore needs no timer. A timer takes 0.9 µs, this call 0.5 µs. If
    `receive` would wait, its coroutine is closed. No message is lost.
    """
    coroutine: Any = receive()
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    return None


async def read_lines(receive: Receive) -> AsyncIterator[list[bytes]]:
    """Yield the complete lines of each message of a body.

    Raises:
        LineTooLong: A line exceeds 64 KiB. The lines before this line have been yielded.
        IncompleteBody: The client disconnected.
    """
    incomplete, more = b"", True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise IncompleteBody
        more = message.get("more_body", False)
        *lines, incomplete = b"".join((incomplete, message.get("body", b""))).split(b"\n")
        if incomplete and not more:
            lines.append(incomplete)
        long_line = _find_long_line([*lines, incomplete])
        if lines[:long_line]:  # all lines if no line is too long
            yield lines[:long_line]
        if long_line is not None:
            raise LineTooLong("line: must be at most 64 KiB; the lines after it are not processed")


def _find_long_line(lines: list[bytes]) -> int | None:
    """Return the index of the first line that exceeds MAX_LINE_BYTES, or None."""
    if max(map(len, lines)) <= MAX_LINE_BYTES:
        return None
    return next(index for index, line in enumerate(lines) if len(line) > MAX_LINE_BYTES)


def check_headers(headers: Headers, media_types: Sequence[str]) -> bool:
    """Reject a body that is too long, declared as another type than JSON, or compressed, before the body is read.

    `media_types` are the types that the route accepts. Return whether the body is declared as JSON.

    A body without a Content-Type is accepted here. The caller rejects such a body from a browser, which sends it for a
    page of another origin without a preflight request.

    Raises:
        BodyTooLarge: Content-Length exceeds 1 MiB.
        UnsupportedMediaType: The body is declared as another type, or is compressed.
    """
    declared = False
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
            raise BodyTooLarge(BODY_TOO_LARGE)
        if name == b"content-type":
            if not JSON_TYPE.match(value):
                raise UnsupportedMediaType(f"Content-Type: must be {' or '.join(media_types)}", media_types)
            declared = True
    check_not_compressed(headers, media_types)
    return declared


def check_not_compressed(headers: Headers, media_types: Sequence[str]) -> None:
    """Reject a compressed body.

    Raises:
        UnsupportedMediaType: The body is compressed.
    """
    for name, value in headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            detail = "Content-Encoding: must be identity; compressed bodies are not supported"
            raise UnsupportedMediaType(detail, media_types)
