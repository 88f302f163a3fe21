"""The time limit for a client to read its response."""

import asyncio
import logging
import socket

logger = logging.getLogger(__name__)

MIN_READ_BYTES = 64 * 1024  # the bytes that a client must read in each period while its response is incomplete

# The unsent bytes that the kernel buffers for a connection. Without this limit the kernel accepts several MiB, and
# accepts more only after a third of them is sent. A slow client would then look like a client that reads nothing.
MAX_UNSENT_BYTES = 32 * 1024
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # available on Linux and macOS


class ReadTimeout:
    """Disconnects a client that reads less than MIN_READ_BYTES of its response in a period of `seconds`."""

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
