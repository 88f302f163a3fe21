"""What stands between the service and its database, and fails as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.processes import free_port


class Relay:
    """Passes bytes on, both ways, as long as nothing else is asked of it."""

    def __init__(self, dsn: str) -> None:
        address, self.port = urlsplit(dsn), free_port()
        self.dsn = address._replace(netloc=f"{address.username}@127.0.0.1:{self.port}").geturl()
        self._target = (address.hostname, address.port)
        self._speaks = asyncio.Event()
        self._swallows = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.restore()

    def restore(self) -> None:
        """Pass on all that comes, and what has come while it was silent."""
        self._swallows = False
        self._speaks.set()

    def swallow_answers(self) -> None:
        """Let the database do what it is asked, and lose what it says."""
        self._swallows = True

    def fall_silent(self) -> None:
        """Pass nothing on and close nothing; who connects is let in, to silence."""
        self._speaks.clear()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._speaks.wait()
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        ends = {writer, inner_writer}
        self._writers |= ends
        ways = {
            asyncio.create_task(self._pass(reader, inner_writer)),
            asyncio.create_task(self._pass(inner_reader, writer, answers=True)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.close()
        await asyncio.wait(ways)
        self._writers -= ends

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._speaks.wait()
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
        between.restore()
        between.cut()
