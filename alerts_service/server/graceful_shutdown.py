"""Graceful shutdown that loses no request that a client has already sent.

At shutdown, uvicorn closes its socket and every connection without a request. If a request arrives at this moment, its
connection is reset, and neither the client nor a load balancer knows whether the request was processed. GracefulServer
therefore accepts the connections in the backlog of its sockets. HttpProtocol keeps each connection without a request
open for LAST_REQUEST_SECONDS.
"""

import asyncio
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

from uvicorn import Server
from uvicorn.supervisors import Multiprocess, multiprocess


class GracefulServer(Server):
    """A server that serves the connections in its backlog before it stops, and can be stopped during startup."""

    _starting: "asyncio.Task[Any] | None" = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server. A signal cancels the startup."""
        self._starting = asyncio.current_task()
        try:
            await super().startup(sockets)
        except asyncio.CancelledError:
            if not self.should_exit:
                raise
        finally:
            self._starting = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop the server, or cancel the startup."""
        super().handle_exit(sig, frame)
        if self._starting is not None:
            self._starting.get_loop().call_soon_threadsafe(self._starting.cancel)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections in the backlog, then stop the server."""
        listening_sockets = [listening for server in self.servers for listening in server.sockets]
        accepted = [connection for listening in listening_sockets for connection in _accept_backlog(listening)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in accepted:
            with suppress(OSError):  # the client has disconnected
                await loop.connect_accepted_socket(self._new_protocol, connection)
        await super().shutdown(sockets)

    def _new_protocol(self) -> asyncio.Protocol:
        """Create the protocol of a connection as uvicorn does."""
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(self.config, self.server_state, self.lifespan.state)
        return protocol


class GracefulWorker(multiprocess.Process):
    """A worker process with a GracefulServer."""

    @property
    def server(self) -> Server:
        """The server of this process."""
        if self._server is None:
            self._server = GracefulServer(self.config)
        return self._server


# Multiprocess has no option for its worker class. The class is replaced when this module is imported, so no supervisor
# can start workers of uvicorn's class.
multiprocess.Process = GracefulWorker  # type: ignore[misc] # uvicorn has no option for the class, and mypy forbids assigning to a class name


class GracefulSupervisor(Multiprocess):
    """A supervisor of workers. The last worker that stops accepts the rest of the backlog."""

    def terminate_all(self) -> None:
        """Close the sockets of this process, then stop the workers.

        If the sockets stayed open, the backlog would grow after the last worker has stopped.
        """
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def _accept_backlog(listening: socket.socket) -> list[socket.socket]:
    accepted = []
    with suppress(OSError), socket.fromfd(listening.fileno(), listening.family, listening.type) as duplicate:
        duplicate.settimeout(0)
        while True:  # until accept raises OSError: the backlog is empty, or the process may not open more files
            connection, _ = duplicate.accept()
            connection.settimeout(0)
            accepted.append(connection)
    return accepted
