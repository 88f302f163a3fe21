"""Two thousand connections ask at once."""

import asyncio
import json
import resource
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
from msgspec import Struct

from tests.faults.postgres import postgres
from tests.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

PEAK, CROWD = 64, 2000
SECONDS = 2


class Answer(Struct):
    status: int
    head: bytes
    body: bytes


@pytest.fixture(autouse=True)
def _many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))


async def _caller(port: int, until: float, answers: list[Answer]) -> None:
    body = json.dumps({"tenant_id": str(uuid4()), "rule_name": "overload", "message": "m"}).encode()
    head = b"POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = False
    while not asked or time.monotonic() < until:
        asked = True
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
        answers.append(Answer(int(answer[9:12]), answer, await reader.readexactly(length)))
    writer.close()
    await writer.wait_closed()


async def _crowd(port: int, callers: int) -> list[Answer]:
    answers: list[Answer] = []
    until = time.monotonic() + SECONDS
    await asyncio.gather(*(_caller(port, until, answers) for _ in range(callers)))
    return answers


async def test_a_crowd_before_a_locked_table(tmp_path: Path) -> None:
    """While nobody can be served a crowd beside half-sent requests is refused properly, and the service is healthy."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        port, process = int(service.url.rsplit(":", 1)[1]), psutil.Process(service.process.pid)
        half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _, writer in half:
            writer.write(b"POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert {answer.status for answer in await _crowd(port, PEAK)} == {201}
        locker = await asyncpg.connect(database.dsn)
        async with locker.transaction(), httpx.AsyncClient(base_url=service.url, verify=False, timeout=10) as client:
            await locker.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
            crowd = asyncio.create_task(_crowd(port, CROWD))
            healthy = 0
            while not crowd.done():
                healthy += (await client.get("/health")).raise_for_status().status_code == 200
                await asyncio.sleep(0.05)
            answers = await crowd
            assert process.memory_info().rss < 200 * 2**20
        await locker.close()
        assert healthy > 0
        assert {answer.status for answer in answers} == {503}
        assert all(b"retry-after: 1" in answer.head for answer in answers)
        assert all(json.loads(answer.body).keys() == {"error", "detail"} for answer in answers)
        assert {answer.status for answer in await _crowd(port, PEAK)} == {201}
        for _, writer in half:
            writer.close()
