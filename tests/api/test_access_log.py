"""The access log: lines pending at a shutdown, and several processes that write to one pipe."""

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import ExitStack
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
print("ready", flush=True)
sys.stdin.read()
asyncio.run(write(sys.argv[1]))
"""


@pytest.mark.anyio
async def test_pending_lines_are_written_before_the_shutdown_completes(
    app: AlertsApp, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alerts_service.access")
    stopping_app = create_app(Settings(internal_service_key=SERVICE_KEY), app.state.database)
    message_types: list[str] = []
    stderr_at_completion = ""

    async def receive() -> Any:
        if not message_types:
            return {"type": "lifespan.startup"}
        async with client_for(stopping_app) as client:
            await client.get("/health/live", headers={"X-Request-ID": "last-request"})
        return {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        nonlocal stderr_at_completion
        message_types.append(message["type"])
        stderr_at_completion = capfd.readouterr().err

    await stopping_app({"type": "lifespan", "state": {}}, receive, send)
    assert message_types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert json.loads(stderr_at_completion.splitlines()[-1])["request_id"] == "last-request"


def test_processes_that_share_a_pipe_write_whole_lines() -> None:
    """Both write at the same time, more than the pipe holds, and the reader is slower than the writers."""
    read_end, write_end = os.pipe()
    log = bytearray()
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=write_end,
                )
            )
            for name in "ab"
        ]
        os.close(write_end)
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            assert writer.stdin
            writer.stdin.close()  # the start signal
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            while chunk := pipe.read(1000):
                log += chunk
                time.sleep(0.0001)
    assert [writer.returncode for writer in writers] == [0, 0]
    request_ids = [json.loads(line)["request_id"] for line in log.splitlines()]
    for name in "ab":
        assert [id_ for id_ in request_ids if id_[0] == name] == [f"{name}-{number}" for number in range(400)]


def test_a_reader_that_starts_after_the_stop_signal_receives_every_line_in_order(
    tmp_path: Path, empty_database: str
) -> None:
    ids = [f"{number:0128}" for number in range(500)]  # their lines are more than a pipe holds
    port = free_port()
    env = environment(DATABASE_URL=empty_database, AS_ALERTS_PORT=str(port))
    with subprocess.Popen(SERVE, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
        service = ServiceProcess(process, tmp_path, port)
        service.wait()
        with service.client() as client:
            for id_ in ids:
                client.get("/health", headers={"X-Request-ID": id_})
        process.terminate()
        time.sleep(0.5)
        lines = [json.loads(line) for line in process.stderr or ()]
    assert process.returncode == 0
    assert [line["request_id"] for line in lines if line.get("path") == "/health"] == ids
    assert {line["status"] for line in lines if line.get("path") == "/health"} == {200}
