"""The service as a process of which a test watches how much it holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.support.processes import ServiceProcess, serving

GROWTH_BYTES = 32 * 2**20  # more than what the collector leaves for later
GROWTH_FILES = 16


class Weight:
    """What a process held at a moment, for a comparison later."""

    def __init__(self, service: ServiceProcess) -> None:
        self._process = psutil.Process(service.process.pid)
        self._bytes, self._files = self._now()

    def assert_kept(self) -> None:
        """It holds hardly more memory than then, and no more connections."""
        memory, files = self._now()
        assert memory - self._bytes < GROWTH_BYTES, memory - self._bytes
        assert files - self._files < GROWTH_FILES, files - self._files

    def _now(self) -> tuple[int, int]:
        return self._process.memory_info().rss, self._process.num_fds()


@asynccontextmanager
async def service(cwd: Path, *, port: int | None = None, **settings: str) -> AsyncIterator[ServiceProcess]:
    """Run the service while the test's own loop goes on with clients and relays."""
    running = serving(cwd, port=port, **settings)
    process = await asyncio.to_thread(running.__enter__)
    try:
        yield process
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
