"""JSON lines on stderr, uvicorn's own among them."""

import asyncio
import logging
import logging.config
import sys
import time
from contextvars import ContextVar
from http import HTTPStatus

import msgspec
from msgspec import Struct
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

logger = logging.getLogger("alerts_service.access")

BATCH_SECONDS = 0.05
PIPE_BUF = 4096
PATH_CHARACTERS = 500  # of six bytes at most, so that a line with a path of any length fits in PIPE_BUF

encode = msgspec.json.Encoder().encode
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(MsgspecFormatter):
    """Writes times as RFC 3339 does, in UTC."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


class RequestIdFilter(logging.Filter):
    """Puts the id of the request that is being answered on every line that is written meanwhile."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        if (current := request_id.get()) is not None:
            record.request_id = current
        return True


class RequestLine(Struct):
    """What is logged of a request; the duration is in milliseconds."""

    time: str
    method: str
    path: str
    status: int | None
    duration_ms: float
    request_id: str
    level: str = "INFO"
    logger: str = "alerts_service.access"
    message: str = "request"


class AccessLog:
    """Writes a line a request to stderr, many at a time, from a thread: a slow reader of the log delays no answer.

    When more than `limit` bytes wait for such a reader, further lines are dropped and counted.
    """

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._lines = bytearray()
        self._limit, self._dropped = limit, 0
        self._writing = False
        self._second, self._stamp = 0, ""

    def write(self, method: str, path: str, status: int | None, duration_ms: float, request_id: str) -> None:
        """Log a request that was answered with this status, or None where it never was."""
        level = logging.INFO if status and status < HTTPStatus.INTERNAL_SERVER_ERROR else logging.ERROR
        if not logger.isEnabledFor(level):
            return
        if len(self._lines) > self._limit:
            self._dropped += 1
            return
        line = RequestLine(
            self._now(), method, path[:PATH_CHARACTERS], status, duration_ms, request_id, logging.getLevelName(level)
        )
        self._lines += encode(line)
        self._lines += b"\n"
        if not self._writing:
            self._schedule()

    def flush(self) -> None:
        """Write what waits, at once."""
        lines, self._lines = self._lines, bytearray()
        _write(lines)

    def _schedule(self) -> None:
        self._writing = True
        loop = asyncio.get_running_loop()
        loop.call_later(BATCH_SECONDS, self._write_behind, loop)

    def _write_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        lines, self._lines = self._lines, bytearray()
        loop.run_in_executor(None, _write, lines).add_done_callback(self._written)

    def _written(self, _: object) -> None:
        self._writing = False
        if self._lines:
            self._schedule()
        if self._dropped:
            logger.warning("%d request lines were dropped: nobody reads the log fast enough", self._dropped)
            self._dropped = 0

    def _now(self) -> str:
        now = time.time()
        if (second := int(now)) != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int(now * 1000) % 1000:03d}Z"


def _write(lines: bytearray) -> None:
    """Write whole lines, so many at a time as a pipe takes at once: several processes may share one."""
    start = 0
    while start < len(lines):
        end = len(lines) if len(lines) - start <= PIPE_BUF else lines.rfind(b"\n", start, start + PIPE_BUF) + 1
        end = end or lines.index(b"\n", start) + 1
        sys.stderr.buffer.write(lines[start:end])
        sys.stderr.buffer.flush()
        start = end


def configure_logging(level: str) -> None:
    """Send every logger's lines to stderr as JSON: time, level, logger, message, and what the line adds.

    Uvicorn's access log is silenced: the service writes its own.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request_id": {"()": RequestIdFilter}},
            "formatters": {
                "json": {
                    "()": JsonFormatter,
                    "fmt": ("asctime", "levelname", "name", "message"),
                    "style": ",",
                    "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                    "reserved_attrs": [*RESERVED_ATTRS, "color_message"],
                }
            },
            "handlers": {
                "stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["request_id"]},
            },
            "root": {"level": level, "handlers": ["stderr"]},
            "loggers": {
                "uvicorn": {"handlers": [], "propagate": True},
                "uvicorn.error": {"handlers": [], "propagate": True, "level": level},
                "uvicorn.access": {"handlers": [], "propagate": False},
            },
        }
    )
