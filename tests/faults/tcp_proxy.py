"""A TCP proxy between the service and its database, which simulates network faults."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.processes import free_port


class TcpProxy:
    """Forwards bytes in both directions until a fault is simulated."""

    def __init__(self, dsn: str) -> None:
        database, self.port = urlsplit(dsn), free_port()
        self.dsn = database._replace(netloc=f"{database.username}@127.0.0.1:{self.port}").geturl()
        self._target = (database.hostname, database.port)
        self._running = asyncio.Event()
        self._drops_responses = False
        self._drop_marker = b""
        self._writers: set[asyncio.StreamWriter] = set()
        self.resume()

    def resume(self) -> None:
        """End a fault: forward again, including the bytes that arrived while the proxy was paused."""
        self._drops_responses, self._drop_marker = False, b""
        self._running.set()

    def drop_responses(self) -> None:
        """Forward requests to the database, and discard its responses."""
        self._drops_responses = True

    def drop_responses_after(self, marker: bytes) -> None:
        """Discard responses once forwarded data contains `marker`."""
        self._drop_marker = marker

    def pause(self) -> None:
        """Accept connections and keep all of them open, but forward nothing."""
        self._running.clear()

    def reset_connections(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Reset connections until none is left."""
        self.resume()
        while self._writers:
            self.reset_connections()
            await asyncio.sleep(0.01)

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._registered(writer):
            await self._running.wait()
            database_reader, database_writer = await asyncio.open_connection(*self._target)
            with self._registered(database_writer):
                directions = {
                    asyncio.create_task(self._forward(reader, database_writer)),
                    asyncio.create_task(self._forward(database_reader, writer, responses=True)),
                }
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                writer.close()
                database_writer.close()
                await asyncio.wait(directions)

    @contextmanager
    def _registered(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.remove(writer)
            writer.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, responses: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._running.wait()
                if self._drop_marker and self._drop_marker in data:
                    self._drops_responses = True
                if not (responses and self._drops_responses):
                    writer.write(data)
                    await writer.drain()


@asynccontextmanager
async def tcp_proxy(dsn: str) -> AsyncIterator[TcpProxy]:
    """Run a proxy in front of a database until the end of the block."""
    proxy = TcpProxy(dsn)
    server = await asyncio.start_server(proxy.handle_connection, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
