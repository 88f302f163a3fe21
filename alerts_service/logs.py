"""JSON lines on stderr, uvicorn's own among them."""

import asyncio
import logging
import logging.config
import sys
import time
from contextvars import ContextVar
from datetime import datetime
from http import HTTPStatus

import msgspec
from msgspec import Struct
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

logger = logging.getLogger("alerts_service.access")

BATCH_SECONDS = 0.05
PIPE_BUF = 4096
PATH_CHARACTERS = 500  # of six bytes at most, so that a line with a path of any length fits in PIPE_BUF

encode_lines = msgspec.json.Encoder().encode_lines
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


class RequestLine(Struct, gc=False):
    """What is logged of a request: when it came, how many milliseconds it took, null for a status if none was sent."""

    time: datetime
    method: str
    path: str
    request_id: str
    status: int | None = None
    duration_ms: float | None = None
    level: str = "INFO"
    logger: str = "alerts_service.access"
    message: str = "request"


class AccessLog:
    """Writes a line a request to stderr, many at a time, from a thread: a slow reader of the log delays no answer.

    When more than `limit` lines wait for such a reader, further ones are dropped and counted.
    """

    def __init__(self, limit: int = 50_000) -> None:
        self._lines: list[RequestLine] = []
        self._limit, self._dropped = limit, 0
        self._writing = False

    def write(self, line: RequestLine, seconds: float) -> None:
        """Log a request that took so long."""
        failed = line.status is None or line.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if not logger.isEnabledFor(logging.ERROR if failed else logging.INFO):
            return
        if len(self._lines) >= self._limit:
            self._dropped += 1
            return
        line.path = line.path[:PATH_CHARACTERS]
        line.duration_ms = round(seconds * 1000, 2)
        if failed:
            line.level = "ERROR"
        self._lines.append(line)
        if not self._writing:
            self._schedule()

    def flush(self) -> None:
        """Write what waits, at once."""
        lines, self._lines = self._lines, []
        _write(lines)

    def _schedule(self) -> None:
        self._writing = True
        loop = asyncio.get_running_loop()
        loop.call_later(BATCH_SECONDS, self._write_behind, loop)

    def _write_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        lines, self._lines = self._lines, []
        loop.run_in_executor(None, _write, lines).add_done_callback(self._written)

    def _written(self, _: object) -> None:
        self._writing = False
        if self._lines:
            self._schedule()
        if self._dropped:
            logger.warning("%d request lines were dropped: nobody reads the log fast enough", self._dropped)
            self._dropped = 0


def _write(requests: list[RequestLine]) -> None:
    """Write whole lines, so many at a time as a pipe takes at once: several processes may share one."""
    lines, start = encode_lines(requests), 0
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
