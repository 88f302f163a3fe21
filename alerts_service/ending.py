"""How a server stops without losing a request that is on its way already.

uvicorn closes its socket and every connection that has no request at the moment. What a client sent just then is reset,
and neither it nor a balancer knows whether it was done. So connections that wait to be accepted are, and one without a
request has a moment for one; its answer says that it was the last.
"""

import asyncio
import socket
from contextlib import suppress

from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LAST_REQUEST_SECONDS = 0.5


class Protocol(HttpToolsProtocol):
    """A connection."""

    _ending = False

    def shutdown(self) -> None:
        """Close after the request that there is, or that comes soon."""
        if self._ending or (self.cycle and not self.cycle.response_complete):
            super().shutdown()
        else:
            self.loop.call_later(LAST_REQUEST_SECONDS, self.shutdown)
        self._ending = True

    def on_headers_complete(self) -> None:
        """Begin a request."""
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False


class LastingServer(Server):
    """Serves whoever was connected when it was told to stop."""

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

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state)


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    accepted = []
    with socket.fromfd(listening.fileno(), listening.family, listening.type) as own, suppress(BlockingIOError):
        own.setblocking(False)  # noqa: FBT003 - the only parameter
        while True:
            connection, _ = own.accept()
            connection.setblocking(False)  # noqa: FBT003 - the only parameter
            accepted.append(connection)
    return accepted
