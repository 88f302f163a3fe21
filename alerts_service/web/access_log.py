"""The access log: one JSON line for each request, on stderr."""

import asyncio
import logging
import sys
from contextvars import Context
from http import HTTPStatus

from alerts_service.logging_config import RequestContext
from alerts_service.web.responses import encode_lines

logger = logging.getLogger("alerts_service.access")

FLUSH_SECONDS = 0.05
ENCODE_BATCH_SIZE = 32  # lines that are encoded in one call, while their data is in the cache of the processor
PIPE_BUF = 4096
MAX_PATH_CHARACTERS = 500  # each takes at most six bytes in JSON, so a line without a long reason fits in PIPE_BUF


class AccessLog:
    """Writes a line for each request to stderr.

    A thread writes many lines at a time, so that writing delays no response. While more than `limit` bytes are pending,
    further lines are dropped and counted.
    """

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._pending: list[RequestContext] = []
        self._encoded = bytearray()
        self._limit, self._dropped = limit, 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Future[None] | None = None

    def write(self, context: RequestContext, seconds: float) -> None:
        """Log a request and its duration in seconds."""
        failed = context.status is None or context.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if not logger.isEnabledFor(logging.ERROR if failed else logging.INFO):
            return
        if len(self._encoded) > self._limit:
            self._dropped += 1
            return
        context.path = context.path[:MAX_PATH_CHARACTERS]
        context.duration_ms = round(seconds * 1000, 2)
        if failed:
            context.level = "ERROR"
        self._pending.append(context)
        if len(self._pending) >= ENCODE_BATCH_SIZE:
            self._encode()
        if self._flush_timer is None and self._flush is None:
            self._schedule_flush()

    async def close(self) -> None:
        """Write all pending lines."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._flush is not None:
            await asyncio.wait({self._flush})
        _write(self._take_encoded())
        self._report_dropped()

    def _encode(self) -> None:
        self._encoded += encode_lines(self._pending)
        self._pending.clear()

    def _take_encoded(self) -> bytearray:
        self._encode()
        lines, self._encoded = self._encoded, bytearray()
        return lines

    def _schedule_flush(self) -> None:
        loop = asyncio.get_running_loop()
        # An empty contextvars.Context: log records of the flush must not have the ID of one request.
        self._flush_timer = loop.call_later(FLUSH_SECONDS, self._start_flush, loop, context=Context())

    def _start_flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._flush_timer = None
        self._flush = loop.run_in_executor(None, _write, self._take_encoded())
        self._flush.add_done_callback(self._end_flush, context=Context())

    def _end_flush(self, flush: "asyncio.Future[None]") -> None:
        self._flush = None
        if flush.cancelled():
            return
        if error := flush.exception():
            logger.error("access log lines lost", extra={"error": str(error)})
        if self._pending or self._encoded:
            self._schedule_flush()
        self._report_dropped()

    def _report_dropped(self) -> None:
        if self._dropped:
            logger.warning("access log lines dropped: stderr is read too slowly", extra={"lines": self._dropped})
            self._dropped = 0


access_log = AccessLog()


def _write(lines: bytearray) -> None:
    """Write whole lines in chunks of at most PIPE_BUF bytes. Writes of this size to a shared pipe are atomic."""
    start = 0
    while start < len(lines):
        end = len(lines) if len(lines) - start <= PIPE_BUF else lines.rfind(b"\n", start, start + PIPE_BUF) + 1
        end = end or lines.index(b"\n", start) + 1  # a longer line, such as one with a long reason
        sys.stderr.buffer.write(lines[start:end])
        sys.stderr.buffer.flush()
        start = end
