"""The access log: nothing is left behind at the end, and processes that share a pipe tear no line."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, client_for
from tests.support.processes import SERVE, ServiceProcess, environment, free_port

WRITER = """
import asyncio, logging, sys
from datetime import datetime, timezone
from alerts_service.logging_config import RequestContext
from alerts_service.web.access_log import AccessLog

async def write(name):
    log = AccessLog()
    for number in range(400):
        path = "\\0" * (number % 50 if number % 5 else 5000)
        log.write(RequestContext(datetime.now(timezone.utc), "GET", path, f"{name}-{number}", 200), 0.001)
    await log.close()

logging.getLogger("alerts_service.access").setLevel("INFO")
asyncio.run(write(sys.argv[1]))
"""


@pytest.mark.anyio
async def test_nothing_is_left_behind(
    app: AlertsApp, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What still waits to be written when the service ends is written before it is gone."""
    caplog.set_level(logging.INFO, "alerts_service.access")
    ending = create_app(Settings(internal_service_key=SERVICE_KEY), app.state.database)

    async def receive() -> Any:
        if not told:
            return {"type": "lifespan.startup"}
        async with client_for(ending) as client:
            await client.get("/health/live", headers={"X-Request-ID": "the-last-one"})
        return {"type": "lifespan.shutdown"}

    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message["type"])

    await ending({"type": "lifespan", "state": {}}, receive, send)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert json.loads(capfd.readouterr().err.splitlines()[-1])["request_id"] == "the-last-one"


def test_lines_of_processes_that_share_a_pipe_arrive_whole() -> None:
    """Each line of two processes that share a pipe arrives whole, whatever the path and however slow the reader."""
    reader, pipe = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name], stderr=pipe) for name in "ab"]
    os.close(pipe)
    time.sleep(0.3)
    with os.fdopen(reader) as log:
        written = log.read()
    assert [writer.wait() for writer in writers] == [0, 0]
    ids = [json.loads(line)["request_id"] for line in written.splitlines()]
    for name in "ab":
        assert [id_ for id_ in ids if id_[0] == name] == [f"{name}-{number}" for number in range(400)]


def test_a_reader_that_comes_late_misses_nothing(tmp_path: Path, empty_database: str) -> None:
    """Lines that nobody has read yet when the service ends are written before it is gone."""
    port = free_port()
    given = environment(DATABASE_URL=empty_database, AS_ALERTS_PORT=str(port))
    with subprocess.Popen(SERVE, cwd=tmp_path, env=given, stderr=subprocess.PIPE) as process:
        service = ServiceProcess(process, tmp_path, port)
        service.wait()
        with service.client(**{"X-Request-ID": "x" * 128}) as client:
            for _ in range(500):  # whose lines are more than a pipe holds
                client.get("/health")
        process.terminate()
        time.sleep(0.5)
        lines = [json.loads(line) for line in process.stderr or ()]
    assert process.returncode == 0
    assert [line["status"] for line in lines if line.get("path") == "/health"] == [200] * 500
