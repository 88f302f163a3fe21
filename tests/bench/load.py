"""Sends requests with wrk, from one thread, and refuses a run in which any was not answered with success."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

SCRIPT = Path(__file__).with_name("load.lua")
GRACE_SECONDS = 20


class BenchError(Exception):
    """The figures of this run would mean nothing."""


class Load(Struct, frozen=True):
    """What wrk counted. `sent` also counts the requests whose answers it no longer waited for."""

    requests: int
    sent: int
    exhausted: bool
    seconds: float
    p50_ms: float
    p99_ms: float
    bad_status: int
    lost: int


class Requests(NamedTuple):
    """Lines `METHOD PATH [BODY]` in a file; with `once`, none is sent twice."""

    file: Path
    once: bool = False

    @classmethod
    def write(cls, file: Path, lines: Iterable[str], *, once: bool = False) -> "Requests":
        file.write_text("\n".join(lines) + "\n")
        return cls(file, once)


def send(url: str, requests: Requests, *, seconds: float, connections: int) -> Load:
    """Keep this many connections busy for some seconds.

    Raises:
        BenchError: wrk is missing or failed, or a request was refused or lost.
    """
    if (wrk := shutil.which("wrk")) is None:
        raise BenchError("wrk is missing: install it with the system's package manager")
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command += [url, "--", str(requests.file), "once" if requests.once else "again"]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS
    )
    if run.returncode or not run.stdout.strip():
        raise BenchError(f"wrk failed: {run.stderr.strip() or run.stdout.strip()}")
    load = msgspec.json.decode(run.stdout.splitlines()[-1], type=Load)
    if load.bad_status or load.lost or not load.requests:
        raise BenchError(f"{load.bad_status} refused and {load.lost} lost of {load.sent} requests: {run.stdout}")
    return load
