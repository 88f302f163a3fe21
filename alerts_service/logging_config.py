"""JSON logging on stderr, one object per line, with uvicorn's records and the context of the current request."""

import logging
import logging.config
import time
from contextvars import ContextVar
from datetime import datetime

from msgspec import UNSET, Struct, UnsetType
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter


class RequestContext(Struct, gc=False):
    """The request that the current task handles, with the fields of its line in the access log.

    `status` is None if no response was sent. `reason` describes a failure of the service or of the database, or the
    rejection of a host or origin.
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


request_context: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


class JsonFormatter(MsgspecFormatter):
    """Writes times in UTC in the format of RFC 3339."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


class RequestIdFilter(logging.Filter):
    """Adds the ID of the current request to each log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the request ID, and accept every record."""
        if (context := request_context.get()) is not None:
            record.request_id = context.request_id
        return True


def configure_logging(level: str) -> None:
    """Send the records of every logger to stderr as JSON: time, level, logger, message and extra fields.

    uvicorn's access log is disabled, as the service writes its own.
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
