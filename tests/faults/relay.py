"""What stands between the service and its database, and fails as networks do."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.processes import free_port


class Relay:
    """Passes bytes on, both ways, as long as nothing else is asked of it."""

    def __init__(self, dsn: str) -> None:
        address, self.port = urlsplit(dsn), free_port()
        self.dsn = address._replace(netloc=f"{address.username}@127.0.0.1:{self.port}").geturl()
        self._target = (address.hostname, address.port)
        self._speaks = asyncio.Event()
        self._swallows = False
        self._last = b""
        self._writers: set[asyncio.StreamWriter] = set()
        self.restore()

    def restore(self) -> None:
        """Pass on all that comes, and what has come while it was silent."""
        self._swallows, self._last = False, b""
        self._speaks.set()

    def swallow_answers(self) -> None:
        """Let the database do what it is asked, and lose what it says."""
        self._swallows = True

    def swallow_from(self, words: bytes) -> None:
        """Swallow answers as soon as the database is asked for this."""
        self._last = words

    @property
    def swallows(self) -> bool:
        """Whether answers are lost by now."""
        return self._swallows

    def fall_silent(self) -> None:
        """Pass nothing on and close nothing; who connects is let in, to silence."""
        self._speaks.clear()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Return when no connection is left."""
        self.restore()
        while self._writers:
            self.cut()
            await asyncio.sleep(0.01)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._known(writer):
            await self._speaks.wait()
            inner_reader, inner_writer = await asyncio.open_connection(*self._target)
            with self._known(inner_writer):
                ways = {
                    asyncio.create_task(self._pass(reader, inner_writer)),
                    asyncio.create_task(self._pass(inner_reader, writer, answers=True)),
                }
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                writer.close()
                inner_writer.close()
                await asyncio.wait(ways)

    @contextmanager
    def _known(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.remove(writer)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._speaks.wait()
                self._swallows = self._swallows or bool(self._last and self._last in data)
                if not (answers and self._swallows):
                    writer.write(data)
                    await writer.drain()


@asynccontextmanager
async def relay(dsn: str) -> AsyncIterator[Relay]:
    """Stand before a database until the end of the block."""
    between = Relay(dsn)
    server = await asyncio.start_server(between.connect, "127.0.0.1", between.port)
    try:
        yield between
    finally:
        server.close()
        await between.stop()
