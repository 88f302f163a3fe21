"""Starts PostgreSQL, the service as it ships, and its peers; tells what each has used."""

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
from tests.bench import seed, statements
from tests.bench.load import BenchError
from tests.support.processes import environment, free_port

ROOT = Path(__file__).parents[2]
SERVICE = "service"
PEERS = ("fastapi", "litestar", "asgi")
START_SECONDS, STOP_SECONDS = 30, 20
MEGABYTE = 2**20
OUTSIDE = "TEST_DATABASE_URL"


@contextmanager
def postgres(*, watched: bool = False) -> Iterator[str]:
    """Yield the address of TEST_DATABASE_URL's server, or of an embedded one; with pg_stat_statements if asked."""
    if url := os.environ.get(OUTSIDE):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)  # for the account that runs PostgreSQL for root
    try:
        server = embedded.start(folder)
        if watched:
            asyncio.run(seed.execute(server.dsn, *statements.PRELOAD))
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

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def used(self) -> "Used":
        """What its own processes and the backends of its database have used so far; of these nothing where not ours."""
        backends = [] if OUTSIDE in os.environ else asyncio.run(seed.backends(self.dsn))
        return Used(_cpu_seconds(process.pid for process in self._all()), _cpu_seconds(backends))

    def resident_megabytes(self) -> float:
        return sum(process.memory_info().rss for process in self._all()) / MEGABYTE


class Used(NamedTuple):
    """Seconds of a processor by process id."""

    server: dict[int, float]
    database: dict[int, float]

    def since(self, before: "Used") -> tuple[float, float]:
        """What was used in between, by the server and by the database; NaN for what cannot be seen.

        A pool may close a connection that it had no use for and open another one: its process counts from zero on.
        """
        server, database = (
            sum((seconds - then.get(pid, 0) for pid, seconds in now.items()), 0.0) if now else float("nan")
            for now, then in zip(self, before, strict=True)
        )
        return server, database


def _cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    used = {}
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            used[pid] = times.user + times.system
    return used


@contextmanager
def running(name: str, server_dsn: str, folder: Path, *, workers: int = 1) -> Iterator[Server]:
    """Run the service or a peer on a database of its own."""
    peer = name in PEERS
    with seed.database(server_dsn, peer=peer) as dsn:
        port = free_port()
        module = ("-m", f"tests.bench.peers.{name}_peer") if peer else ("-m", "alerts_service", f"--workers={workers}")
        settings = (
            {"POOL_SIZE": str(Settings().pool_size), "PORT": str(port)} if peer else {"AS_ALERTS_PORT": str(port)}
        )
        given = environment(DATABASE_URL=dsn, PYTHONPATH=str(ROOT), **settings)
        log = folder / f"{name}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, *module], cwd=folder, env=given, stdout=subprocess.DEVNULL, stderr=stderr
            )
        try:
            server = Server(name, f"http://127.0.0.1:{port}", dsn, psutil.Process(process.pid))
            _await_answer(server, process, log)
            yield server
        finally:
            _stop(process)


def _await_answer(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urlopen(f"{server.url}/health", timeout=1):
            return
        time.sleep(0.05)
    raise BenchError(f"{server.name} does not answer: {log.read_text()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
