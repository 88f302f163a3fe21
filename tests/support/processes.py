"""The service and its commands as child processes."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

SETTINGS = ("AS_ALERTS_", "DATABASE_URL", "INTERNAL_SERVICE_KEY", "TENANT_JWT_", "ENVIRONMENT")
SERVE = (sys.executable, "-m", "alerts_service")


class ServiceProcess:
    """A running service and its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.url = f"http://127.0.0.1:{port}"

    def client(self, **headers: str) -> httpx.Client:
        """Return a client of the service. It loads no CA certificates, as that takes longer than a request."""
        return httpx.Client(base_url=self.url, headers=headers, verify=False)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[dict[str, Any]]:
        """Send a signal, wait until the service has ended, and return the lines of its log."""
        self.process.send_signal(number)
        self.process.wait(timeout=20)
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait(self, seconds: float = 60) -> None:
        """Wait until the service answers. If it has ended, raise an error that contains its log."""
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise AssertionError(self.log.read_text())
                try:
                    client.get("/health/live", timeout=1)
                except httpx.TransportError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError("the service does not answer")


def free_port() -> int:
    """Return a port that no outgoing connection uses, so that a restarted server can listen on it again."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of this process with these settings, and without any others of the service."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    pooler = {"AS_ALERTS_POOLER": "true"} if "TEST_POOLER" in os.environ else {}
    return {**inherited, **pooler, **settings}


@contextmanager
def serving(
    cwd: Path,
    command: Sequence[str] = SERVE,
    *,
    port: int | None = None,
    port_setting: str | None = "AS_ALERTS_PORT",
    **settings: str,
) -> Iterator[ServiceProcess]:
    """Run the service in a folder while the block runs. Without `port`, it listens on a free one.

    The port is passed by the setting `port_setting`, or by `{port}` in the command.
    """
    port, log = port or free_port(), cwd / "service.log"
    variables = environment(**({port_setting: str(port)} if port_setting else {}), **settings)
    arguments = [part.format(port=port) for part in command]
    with log.open("wb") as stderr:
        process = subprocess.Popen(arguments, cwd=cwd, env=variables, stderr=stderr, stdout=subprocess.DEVNULL)
    service = ServiceProcess(process, log, port)
    try:
        service.wait()
        yield service
    finally:
        if process.poll() is None:
            service.stop()


@asynccontextmanager
async def running_service(cwd: Path, *, port: int | None = None, **settings: str) -> AsyncIterator[ServiceProcess]:
    """Start and stop the service in a thread, so that the event loop keeps serving clients and proxies of the test."""
    context = serving(cwd, port=port, **settings)
    service = await asyncio.to_thread(context.__enter__)
    try:
        yield service
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def run(cwd: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the service until it ends. If it serves, it listens on any free port."""
    command = [*SERVE, *arguments]
    settings = {"AS_ALERTS_PORT": "0", **settings}
    return subprocess.run(
        command, cwd=cwd, env=environment(**settings), text=True, capture_output=True, timeout=30, check=False
    )
