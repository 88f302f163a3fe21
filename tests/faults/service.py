"""Port, memory and file descriptors of a running service."""

import psutil

from tests.support.processes import ServiceProcess

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


def port_of(service: ServiceProcess) -> int:
    return int(service.url.rpartition(":")[2])
