"""JSON logging: one object a line on stderr, uvicorn's records included."""

import logging
import logging.config
import time
from contextvars import ContextVar

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

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
