"""Connections to the service, byte by byte, and bounds on its memory."""

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
    """A connection to the service, byte by byte."""

    def __init__(self, service: ServiceProcess) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10)
        self.stream = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: its status, headers and body."""
        status = int(self.stream.readline().split()[1])
        lines = iter(self.stream.readline, b"\r\n")
        headers = dict(line.decode().strip().split(": ", 1) for line in lines)
        return status, headers, self.stream.read(int(headers["content-length"]))

    def closed(self) -> bool:
        """Whether the service closes the connection, without another byte."""
        try:
            return self.stream.read() == b""
        except ConnectionResetError:
            return True

    def assert_refused(self, status: int, error: str, detail: str) -> str:
        """The service says why, and closes; return the id of the request."""
        given, headers, body = self.answer()
        assert given == status, body
        assert (headers["content-type"], headers["connection"]) == ("application/json", "close")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert json.loads(body) == {"error": error, "detail": detail}
        assert self.closed()
        return headers["x-request-id"]

    def send_on(self, data: bytes, limit: int) -> int:
        """Send the same again and again until the service has had enough, and return how many bytes it took."""
        taken = 0
        try:
            while taken < limit:
                taken += self.socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return taken


@contextmanager
def raw_connections(service: ServiceProcess, count: int) -> Iterator[list[RawConnection]]:
    callers = [RawConnection(service) for _ in range(count)]
    yield callers
    for caller in callers:
        caller.stream.close()
        caller.socket.close()


@contextmanager
def memory_growth_below(service: ServiceProcess, mib: int) -> Iterator[None]:
    """Meanwhile the memory of the service grows by so much at most, at any moment."""
    process, over = psutil.Process(service.process.pid), Event()
    sizes = [process.memory_info().rss]

    def look() -> None:
        while not over.wait(0.01):
            sizes.append(process.memory_info().rss)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield
        finally:
            over.set()
    looking.result()
    assert max(sizes) - sizes[0] < mib * MIB


def open_sockets(service: ServiceProcess) -> list[object]:
    return [each for each in psutil.Process(service.process.pid).net_connections("tcp") if each.raddr]
