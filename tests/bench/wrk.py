"""Sends requests with wrk, from one thread, and rejects a run in which a request did not succeed."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

SCRIPT = Path(__file__).with_name("wrk.lua")
GRACE_SECONDS = 20


class BenchError(Exception):
    """The benchmark cannot run, or its figures would be meaningless."""


class WrkResult(Struct, frozen=True):
    """The result of a run of wrk.

    Attributes:
        requests: responses received
        sent: requests sent, including those whose responses wrk did not wait for at the end
        exhausted: whether a file of requests that may be sent once was too short for the run
        seconds: duration of the run
        p50_ms: median latency
        p99_ms: 99th percentile of the latency
        bad_status: responses with a status of 400 or above
        socket_errors: connections that failed or timed out
    """

    requests: int
    sent: int
    exhausted: bool
    seconds: float
    p50_ms: float
    p99_ms: float
    bad_status: int
    socket_errors: int


class RequestFile(NamedTuple):
    """A file with one request per line, `METHOD PATH [BODY]`; with `once`, each is sent at most once."""

    path: Path
    once: bool = False

    @classmethod
    def write(cls, path: Path, lines: Iterable[str], *, once: bool = False) -> "RequestFile":
        path.write_text("\n".join(lines) + "\n")
        return cls(path, once)


def send(url: str, requests: RequestFile, *, seconds: float, connections: int) -> WrkResult:
    """Send requests over this many connections, each as soon as the previous response has arrived.

    Raises:
        BenchError: wrk is missing or failed, or a request failed.
    """
    if (wrk := shutil.which("wrk")) is None:
        raise BenchError("wrk is missing: install it with the system's package manager")
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command += [url, "--", str(requests.path), "once" if requests.once else "repeat"]
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS
    )
    if process.returncode or not process.stdout.strip():
        raise BenchError(f"wrk failed: {process.stderr.strip() or process.stdout.strip()}")
    result = msgspec.json.decode(process.stdout.splitlines()[-1], type=WrkResult)
    if result.bad_status or result.socket_errors or not result.requests:
        errors = f"{result.bad_status} error responses and {result.socket_errors} socket errors"
        raise BenchError(f"{errors} in {result.sent} requests: {process.stdout}")
    return result
