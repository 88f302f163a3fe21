"""How a server stops without losing a request that is on its way already.

uvicorn closes its socket and every connection that has no request at the moment. What a client sent just then is reset,
and neither it nor a balancer knows whether it was done. So connections that wait to be accepted are, and one without a
request has a moment for one (`protocol.py`).
"""

import asyncio
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

from uvicorn import Server
from uvicorn.supervisors import Multiprocess, multiprocess


class GracefulServer(Server):
    """Serves whoever was connected when it was told to stop, and stops also while it still starts."""

    _starting: "asyncio.Task[Any] | None" = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, unless it is told to stop before that is done."""
        self._starting = asyncio.current_task()
        try:
            await super().startup(sockets)
        except asyncio.CancelledError:
            if not self.should_exit:
                raise
        finally:
            self._starting = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Hear a signal."""
        super().handle_exit(sig, frame)
        if self._starting is not None:
            self._starting.get_loop().call_soon_threadsafe(self._starting.cancel)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, with those who wait to be accepted served."""
        listening = [each for server in self.servers for each in server.sockets]
        accepted = [connection for each in listening for connection in _accept_all(each)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in accepted:
            with suppress(OSError):  # who has gone meanwhile
                await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """Make what a connection that uvicorn accepts gets."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(self.config, self.server_state, self.lifespan.state)
        return protocol


class GracefulWorker(multiprocess.Process):
    """A worker that serves so, also one that takes the place of another."""

    @property
    def server(self) -> Server:
        """The server of this process."""
        if self._server is None:
            self._server = GracefulServer(self.config)
        return self._server


multiprocess.Process = GracefulWorker  # type: ignore[misc] # Multiprocess has no option for its worker class


class GracefulSupervisor(Multiprocess):
    """Workers, the last of which to stop accepts whoever is left to wait."""

    def terminate_all(self) -> None:
        """Stop listening here first: what would still come in nobody would accept."""
        for each in self.sockets:
            each.close()
        super().terminate_all()


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    accepted = []
    with suppress(OSError), socket.fromfd(listening.fileno(), listening.family, listening.type) as own:
        own.settimeout(0)
        while True:  # until nobody is left, or no more files may be open
            connection, _ = own.accept()
            connection.settimeout(0)
            accepted.append(connection)
    return accepted
