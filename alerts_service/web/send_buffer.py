"""A limit for the total size of the response bodies that a process is sending."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

logger = logging.getLogger(__name__)

# A client that needs longer for a body is slow: bodies have up to about 5 MiB.
SLOW_CLIENT_SECONDS = 2.0


class SendBufferFull(Exception):
    """The response bodies that this process is sending reach the limit."""


class PendingBody(Struct, eq=False):
    """A response body that is being sent: the size, the loop time of the start, and the sending task."""

    size: int
    started_at: float
    task: "asyncio.Task[Any]"


class SendBuffer:
    """Counts the bytes of the response bodies above 64 KiB that are being sent, and limits their total size.

    The bodies themselves are not stored here. When the limit is reached, the oldest responses to slow clients are
    canceled.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._pending: dict[PendingBody, None] = {}  # oldest first

    def make_room(self) -> bool:
        """Cancel the oldest responses to slow clients until there is room. Return whether there is room for a body."""
        while self._free <= 0 and self._pending:
            oldest = next(iter(self._pending))
            if asyncio.get_running_loop().time() - oldest.started_at < SLOW_CLIENT_SECONDS:
                break
            self._release(oldest)
            oldest.task.cancel()
        return self._free > 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a body of `size` bytes until the end of the block, which sends the body.

        The last body may exceed the limit.

        Raises:
            SendBufferFull: There is no room.
        """
        if not self.make_room():
            raise SendBufferFull
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every response is sent in a task
        body = PendingBody(size, asyncio.get_running_loop().time(), task)
        self._pending[body] = None
        self._free -= size
        try:
            yield
        except asyncio.CancelledError:
            if body in self._pending:
                raise  # not canceled by `make_room`, which removes the body
            logger.warning("response cut off: the client reads slowly, and the send buffer is full")
        finally:
            if body in self._pending:
                self._release(body)

    def _release(self, body: PendingBody) -> None:
        del self._pending[body]
        self._free += body.size
