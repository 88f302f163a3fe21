"""The time limit in which a client must read its response."""

import asyncio
import logging
import socket

logger = logging.getLogger(__name__)

MIN_READ_BYTES = 64 * 1024  # that a client must read in each period while a response is unread

# The bytes that the kernel accepts beyond those that the network can take. Without this limit the kernel accepts
# several MiB, and more only when a third of them are sent: then a slow client looks like one that reads nothing.
MAX_UNSENT_BYTES = 32 * 1024
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it


class WriteTimeout:
    """Disconnects a client that reads less than 64 KiB of its response, or of the rest of it, in each period."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, seconds: float) -> None:
        self._loop, self._transport, self._seconds = loop, transport, seconds
        self._timer: asyncio.TimerHandle | None = None
        if TCP_NOTSENT_LOWAT is not None and (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)

    def start(self) -> None:
        """Start a period."""
        self.cancel()
        self._timer = self._loop.call_later(self._seconds, self._check, self._transport.get_write_buffer_size())

    def cancel(self) -> None:
        """End the time limit."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, unread: int) -> None:
        if unread - self._transport.get_write_buffer_size() >= MIN_READ_BYTES:
            self.start()
        else:
            logger.warning("connection closed: the client reads its response too slowly")
            self._transport.abort()
