"""Starts PostgreSQL, the service and its peers, and measures their CPU time and memory."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import psutil

from alerts_service.embedded import handle as embedded
from alerts_service.settings import Settings
from tests.bench import seed
from tests.bench.statement_times import PRELOAD_EXTENSION
from tests.bench.wrk import BenchError
from tests.support.processes import environment, free_port

ROOT = Path(__file__).parents[2]
SERVICE = "service"
PEERS = ("fastapi", "litestar", "asgi")
START_SECONDS, STOP_SECONDS = 30, 20
MEGABYTE = 2**20
EXTERNAL_SERVER = "TEST_DATABASE_URL"


@contextmanager
def database_server(*, statement_times: bool = False) -> Iterator[str]:
    """Yield the DSN of the server of TEST_DATABASE_URL, or of an embedded one.

    Args:
        statement_times: whether an embedded server preloads pg_stat_statements
    """
    if dsn := os.environ.get(EXTERNAL_SERVER):
        yield dsn
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)  # for root, PostgreSQL runs as another user
    try:
        server = embedded.start(folder)
        if statement_times:
            asyncio.run(seed.execute(server.dsn, *PRELOAD_EXTENSION))
            server.stop()
            server = embedded.start(folder)
        try:
            yield server.dsn
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server(NamedTuple):
    """A running service or peer."""

    name: str
    url: str
    dsn: str
    process: psutil.Process

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_times(self) -> "CpuTimes":
        """Return the CPU times of the server and of its database connections; no latter for an external server."""
        backends = [] if EXTERNAL_SERVER in os.environ else asyncio.run(seed.backend_pids(self.dsn))
        return CpuTimes(_cpu_seconds(process.pid for process in self._processes()), _cpu_seconds(backends))

    def resident_megabytes(self) -> float:
        return sum(process.memory_info().rss for process in self._processes()) / MEGABYTE


class CpuTimes(NamedTuple):
    """CPU seconds so far, by process id."""

    server: dict[int, float]
    database: dict[int, float]

    def since(self, earlier: "CpuTimes") -> tuple[float, float]:
        """Return the CPU seconds of the server and of the database since then; NaN where they are unknown.

        A pool may replace an idle connection meanwhile: the time of the new process counts from zero.
        """
        server, database = (
            sum((seconds - before.get(pid, 0) for pid, seconds in now.items()), 0.0) if now else float("nan")
            for now, before in zip(self, earlier, strict=True)
        )
        return server, database


def _cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    seconds = {}
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            seconds[pid] = times.user + times.system
    return seconds


@contextmanager
def running_server(name: str, server_dsn: str, folder: Path, *, workers: int = 1) -> Iterator[Server]:
    """Run the service or a peer with a database of its own until the end of the block."""
    peer = name in PEERS
    with seed.temporary_database(server_dsn, peer=peer) as dsn:
        port = free_port()
        module = ("-m", f"tests.bench.peers.{name}_peer") if peer else ("-m", "alerts_service", f"--workers={workers}")
        settings = (
            {"POOL_SIZE": str(Settings().pool_size), "PORT": str(port)} if peer else {"AS_ALERTS_PORT": str(port)}
        )
        variables = environment(DATABASE_URL=dsn, PYTHONPATH=str(ROOT), **settings)
        log = folder / f"{name}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, *module], cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=stderr
            )
        try:
            server = Server(name, f"http://127.0.0.1:{port}", dsn, psutil.Process(process.pid))
            _wait_until_ready(server, process, log)
            yield server
        finally:
            _stop(process)


def _wait_until_ready(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urlopen(f"{server.url}/health", timeout=1):
            return
        time.sleep(0.05)
    raise BenchError(f"{server.name} does not respond: {log.read_text()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
