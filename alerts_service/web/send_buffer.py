"""A limit for the response bodies that a process holds until its clients have read them."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

logger = logging.getLogger(__name__)

# A client that has not read a whole body by then is slow: bodies have up to about 5 MiB.
SLOW_CLIENT_SECONDS = 2.0


class SendBufferFull(Exception):
    """The response bodies that this process holds for its clients leave no room for another."""


class PendingBody(Struct, eq=False):
    """A response body that is being sent: its size, the loop time of the start, and the task that sends it."""

    size: int
    started_at: float
    task: "asyncio.Task[Any]"


class SendBuffer:
    """Counts the bytes of the response bodies above 64 KiB that this process holds until they are sent.

    When the buffer is full, the oldest responses to slow clients are cut off.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._pending: dict[PendingBody, None] = {}  # oldest first

    def has_room(self) -> bool:
        """Return whether there is room for another body, after cutting off slow clients if there is none."""
        while self._free <= 0 and self._pending:
            oldest = next(iter(self._pending))
            if asyncio.get_running_loop().time() - oldest.started_at < SLOW_CLIENT_SECONDS:
                break
            self._release(oldest)
            oldest.task.cancel()
        return self._free > 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a body while the block sends it. The last body may exceed the limit.

        Raises:
            SendBufferFull: there is no room.
        """
        task = asyncio.current_task()
        if not self.has_room() or task is None:
            raise SendBufferFull
        body = PendingBody(size, asyncio.get_running_loop().time(), task)
        self._pending[body] = None
        self._free -= size
        try:
            yield
        except asyncio.CancelledError:
            if body in self._pending:
                raise
            logger.warning("response cut off: the client reads slowly, and the send buffer is full")
        finally:
            if body in self._pending:
                self._release(body)

    def _release(self, body: PendingBody) -> None:
        del self._pending[body]
        self._free += body.size
