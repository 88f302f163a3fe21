"""The service as a child process, and its use of memory and file descriptors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.support.processes import ServiceProcess, serving

MAX_MEMORY_GROWTH_BYTES = 32 * 2**20  # more than the garbage that Python may not have collected yet
MAX_DESCRIPTOR_GROWTH = 16


class ResourceUsage:
    """Memory and open file descriptors of a process, measured when the object is created."""

    def __init__(self, service: ServiceProcess) -> None:
        self._process = psutil.Process(service.process.pid)
        self._memory, self._descriptors = self._measure()

    def assert_not_grown(self) -> None:
        """Assert that the process holds hardly more memory and file descriptors (connections) than at creation."""
        memory, descriptors = self._measure()
        assert memory - self._memory < MAX_MEMORY_GROWTH_BYTES, memory - self._memory
        assert descriptors - self._descriptors < MAX_DESCRIPTOR_GROWTH, descriptors - self._descriptors

    def _measure(self) -> tuple[int, int]:
        return self._process.memory_info().rss, self._process.num_fds()


@asynccontextmanager
async def running_service(cwd: Path, *, port: int | None = None, **settings: str) -> AsyncIterator[ServiceProcess]:
    """Start and stop the service in a thread, so that the event loop keeps serving clients and proxies of the test."""
    context = serving(cwd, port=port, **settings)
    service = await asyncio.to_thread(context.__enter__)
    try:
        yield service
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def port_of(service: ServiceProcess) -> int:
    return int(service.url.rpartition(":")[2])
