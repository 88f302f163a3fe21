"""Raw TCP connections to the service, and limits on its memory meanwhile."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import psutil

from tests.support.processes import ServiceProcess

MIB = 1024 * 1024


class RawConnection:
    """A TCP connection to the service, on which a test sends any bytes."""

    def __init__(self, service: ServiceProcess) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10)
        self.stream = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read a response, and return its status, headers and body."""
        status = int(self.stream.readline().split()[1])
        lines = iter(self.stream.readline, b"\r\n")
        headers = dict(line.decode().strip().split(": ", 1) for line in lines)
        return status, headers, self.stream.read(int(headers["content-length"]))

    def closed(self) -> bool:
        """Wait until the service closes the connection, and return whether it sent nothing before."""
        try:
            return self.stream.read() == b""
        except ConnectionResetError:
            return True

    def assert_refused(self, status: int, error: str, detail: str) -> str:
        """Assert that the service sends an error response and closes the connection; return the request id."""
        actual, headers, body = self.answer()
        assert actual == status, body
        assert (headers["content-type"], headers["connection"]) == ("application/json", "close")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert json.loads(body) == {"error": error, "detail": detail}
        assert self.closed()
        return headers["x-request-id"]

    def send_on(self, data: bytes, limit: int) -> int:
        """Send data repeatedly until the service closes the connection or `limit` is reached; return the bytes sent."""
        sent = 0
        try:
            while sent < limit:
                sent += self.socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return sent


@contextmanager
def raw_connections(service: ServiceProcess, count: int) -> Iterator[list[RawConnection]]:
    """Open connections for the block, and close them after it."""
    connections = [RawConnection(service) for _ in range(count)]
    yield connections
    for connection in connections:
        connection.stream.close()
        connection.socket.close()


@contextmanager
def memory_growth_below(service: ServiceProcess, mib: int) -> Iterator[None]:
    """Assert that the memory of the service never grows by `mib` MiB or more while the block runs."""
    process, finished = psutil.Process(service.process.pid), Event()
    sizes = [process.memory_info().rss]

    def sample() -> None:
        while not finished.wait(0.01):
            sizes.append(process.memory_info().rss)

    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(sample)
        try:
            yield
        finally:
            finished.set()
    sampling.result()
    assert max(sizes) - sizes[0] < mib * MIB


def open_sockets(service: ServiceProcess) -> list[object]:
    """Return the established TCP connections of the service, also those to the database."""
    return [each for each in psutil.Process(service.process.pid).net_connections("tcp") if each.raddr]
