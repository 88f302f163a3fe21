"""The access log: a JSON line a request on stderr."""

import asyncio
import logging
import sys
from contextvars import Context
from datetime import datetime
from http import HTTPStatus

import msgspec
from msgspec import UNSET, Struct, UnsetType

logger = logging.getLogger("alerts_service.access")

BATCH_SECONDS = 0.05
AT_ONCE = 32  # lines that are encoded together, while they are still in the processor's cache
PIPE_BUF = 4096
PATH_CHARACTERS = 500  # of six bytes at most, so that a line with a path of any length fits in PIPE_BUF

encode_lines = msgspec.json.Encoder().encode_lines


class RequestLine(Struct, gc=False):
    """What is logged of a request: when it came, how many milliseconds it took, null for a status if none was sent.

    The reason is there where we failed.
    """

    time: datetime
    method: str
    path: str
    request_id: str
    status: int | None = None
    duration_ms: float | None = None
    level: str = "INFO"
    logger: str = "alerts_service.access"
    message: str = "request"
    reason: str | UnsetType = UNSET


class AccessLog:
    """Writes a line a request to stderr, many at a time, from a thread, so that these delay no answer.

    When more than `limit` bytes wait for such a reader, further lines are dropped and counted.
    """

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._lines: list[RequestLine] = []
        self._text = bytearray()
        self._limit, self._dropped = limit, 0
        self._clock: asyncio.TimerHandle | None = None
        self._behind: asyncio.Future[None] | None = None

    def write(self, line: RequestLine, seconds: float) -> None:
        """Log a request that took so long."""
        failed = line.status is None or line.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if not logger.isEnabledFor(logging.ERROR if failed else logging.INFO):
            return
        if len(self._text) > self._limit:
            self._dropped += 1
            return
        line.path = line.path[:PATH_CHARACTERS]
        line.duration_ms = round(seconds * 1000, 2)
        if failed:
            line.level = "ERROR"
        self._lines.append(line)
        if len(self._lines) >= AT_ONCE:
            self._encode()
        if self._clock is None and self._behind is None:
            self._schedule()

    async def close(self) -> None:
        """Write what waits."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self._behind is not None:
            await asyncio.wait({self._behind})
        _write(self._take())
        self._tell_dropped()

    def _encode(self) -> None:
        self._text += encode_lines(self._lines)
        self._lines.clear()

    def _take(self) -> bytearray:
        self._encode()
        text, self._text = self._text, bytearray()
        return text

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        # In a context of its own: the lines are no request's in particular.
        self._clock = loop.call_later(BATCH_SECONDS, self._write_behind, loop, context=Context())

    def _write_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = None
        self._behind = loop.run_in_executor(None, _write, self._take())
        self._behind.add_done_callback(self._written, context=Context())

    def _written(self, written: "asyncio.Future[None]") -> None:
        self._behind = None
        if written.cancelled():
            return
        if error := written.exception():
            logger.error("Request lines were lost: %s", error)
        if self._lines or self._text:
            self._schedule()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._dropped:
            logger.warning("%d request lines were dropped: nobody reads the log fast enough", self._dropped)
            self._dropped = 0


def _write(text: bytearray) -> None:
    """Write whole lines, so many at a time as a pipe takes at once: several processes may share one."""
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= PIPE_BUF else text.rfind(b"\n", start, start + PIPE_BUF) + 1
        end = end or text.index(b"\n", start) + 1
        sys.stderr.buffer.write(text[start:end])
        sys.stderr.buffer.flush()
        start = end
