"""The service as a real process, the way it is deployed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

SETTINGS = ("AS_ALERTS_", "DATABASE_URL", "INTERNAL_SERVICE_KEY", "TENANT_JWT_", "ENVIRONMENT")
SERVE = (sys.executable, "-m", "alerts_service")


class ServiceProcess:
    """A running service, and what it wrote."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.url = f"http://127.0.0.1:{port}"

    def client(self, **headers: str) -> httpx.Client:
        """Make a client of the service, without the world's certificates: they take longer to read than an answer."""
        return httpx.Client(base_url=self.url, headers=headers, verify=False)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[dict[str, Any]]:
        """End the service and return the lines of its log."""
        self.process.send_signal(number)
        self.process.wait(timeout=20)
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """Read what the log holds."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait(self, seconds: float = 60) -> None:
        """Return when the service answers, or raise with what it wrote instead."""
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
    """One that no outgoing connection is given meanwhile, so that a server may come back to it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(**settings: str) -> dict[str, str]:
    """The surroundings of this process without the settings of a service, and with those given."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    pooler = {"AS_ALERTS_POOLER": "true"} if "TEST_POOLER" in os.environ else {}
    return {**bare, **pooler, **settings}


@contextmanager
def serving(
    cwd: Path,
    command: Sequence[str] = SERVE,
    *,
    port: int | None = None,
    port_setting: str | None = "AS_ALERTS_PORT",
    **settings: str,
) -> Iterator[ServiceProcess]:
    """Run the service in a folder until the test is done with it, on a port, else a free one, by setting or command."""
    port, log = port or free_port(), cwd / "service.log"
    given = environment(**({port_setting: str(port)} if port_setting else {}), **settings)
    arguments = [part.format(port=port) for part in command]
    with log.open("wb") as stderr:
        process = subprocess.Popen(arguments, cwd=cwd, env=given, stderr=stderr, stdout=subprocess.DEVNULL)
    service = ServiceProcess(process, log, port)
    try:
        service.wait()
        yield service
    finally:
        if process.poll() is None:
            service.stop()


def run(cwd: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the service to its end; one that serves would take any free port."""
    command = [*SERVE, *arguments]
    settings = {"AS_ALERTS_PORT": "0", **settings}
    return subprocess.run(
        command, cwd=cwd, env=environment(**settings), text=True, capture_output=True, timeout=30, check=False
    )
