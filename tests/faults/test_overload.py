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
from typing_extensions import Self

from tests.faults.postgres import postgres
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

PEAK, FEW, CROWD = 64, 192, 2000
SECONDS, PATIENCE, GAP = 2, 2, 0.5

# A service that has one connection does 64 a second, since a statement holds so many.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE TRIGGER slow BEFORE INSERT ON alerts EXECUTE FUNCTION slow();
"""


class Answer(Struct):
    status: int
    head: bytes
    body: bytes
    at: float
    seconds: float


@pytest.fixture(autouse=True)
def _many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))


class Crowd:
    """Callers that are connected, and ask as fast as they are answered while `ask` lasts."""

    def __init__(self, port: int, size: int) -> None:
        self._port, self._size = port, size
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._size):
            self._connections.append(await asyncio.open_connection("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *error: object) -> None:
        for _, writer in self._connections:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._connections))

    async def ask(self, seconds: float = SECONDS) -> list[Answer]:
        """Ask for so long, and return when all have their last answer."""
        answers: list[Answer] = []
        until = time.monotonic() + seconds
        await asyncio.gather(*(_caller(*connection, until, answers) for connection in self._connections))
        return answers


async def _caller(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float, answers: list[Answer]
) -> None:
    body = json.dumps({"tenant_id": str(uuid4()), "rule_name": "overload", "message": "m"}).encode()
    head = b"POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    request = head % len(body) + body
    while time.monotonic() < until:
        asked = time.monotonic()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        answers.append(Answer(int(answer[9:12]), answer, body, time.monotonic(), time.monotonic() - asked))


async def _ask(port: int, clients: int, seconds: float = SECONDS) -> list[Answer]:
    async with Crowd(port, clients) as crowd:
        return await crowd.ask(seconds)


def _rates(answers: list[Answer]) -> tuple[float, float]:
    """How many a second were done, and how many were asked for, from one statement's end to another's."""
    done = sorted(answer.at for answer in answers if answer.status == 201)
    first, last = next(at for at in done if at > done[0] + PATIENCE), done[-1]
    span = [answer for answer in answers if first + GAP < answer.at < last + GAP]
    return sum(answer.status == 201 for answer in span) / (last - first), len(span) / (last - first)


def _assert_refused(answers: list[Answer]) -> None:
    """Each says that it was not done, in the documented shape, and soon."""
    for answer in answers:
        assert answer.status == 503, answer
        assert b"\r\nretry-after: 1\r\n" in answer.head, answer
        assert json.loads(answer.body).keys() == {"error", "detail"}, answer
        assert answer.seconds < PATIENCE + 1.5, answer


async def test_a_crowd_before_a_locked_table(tmp_path: Path) -> None:
    """While nobody can be served a crowd beside half-sent requests is refused properly, and the service is healthy."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        port, process = int(service.url.rsplit(":", 1)[1]), psutil.Process(service.process.pid)
        half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _, writer in half:
            writer.write(b"POST /alerts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert {answer.status for answer in await _ask(port, PEAK)} == {201}
        locker = await asyncpg.connect(database.dsn)
        async with locker.transaction(), httpx.AsyncClient(base_url=service.url, verify=False, timeout=10) as client:
            await locker.execute("LOCK TABLE alerts IN ACCESS EXCLUSIVE MODE")
            crowd = asyncio.create_task(_ask(port, CROWD))
            healthy = 0
            while not crowd.done():
                healthy += (await client.get("/health")).raise_for_status().status_code == 200
                await asyncio.sleep(0.05)
            answers = await crowd
            assert process.memory_info().rss < 200 * 2**20
        await locker.close()
        assert healthy > 0
        assert answers
        _assert_refused(answers)
        assert {answer.status for answer in await _ask(port, PEAK)} == {201}
        for _, writer in half:
            writer.close()


async def test_ten_times_what_can_be_served(tmp_path: Path) -> None:
    """A crowd that asks a slow database for ten times what it can do gets as much done as a few do."""
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn, AS_ALERTS_POOL_SIZE="1") as service:
        port = int(service.url.rsplit(":", 1)[1])
        admin = await asyncpg.connect(database.dsn)
        await admin.execute(SLOW)
        await admin.close()
        few, many = [await _ask(port, clients, seconds=6) for clients in (FEW, CROWD)]
    (peak, _), (rate, asked) = _rates(few), _rates(many)
    assert asked > 10 * peak
    assert rate > 0.8 * peak
    _assert_refused([answer for answer in many if answer.status != 201])


async def test_a_request_among_many_costs_little_more(tmp_path: Path) -> None:
    """What a request costs the process hardly depends on how many others wait."""
    with postgres(fsync="off") as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        port, process = int(service.url.rsplit(":", 1)[1]), psutil.Process(service.process.pid)
        few, many = [await _cost(port, process, clients) for clients in (PEAK, CROWD)]
    assert few > 0.8 * many


async def _cost(port: int, process: psutil.Process, clients: int) -> float:
    """How many seconds of a processor a request takes."""
    async with Crowd(port, clients) as crowd:
        before = process.cpu_times()
        answers = await crowd.ask()
        after = process.cpu_times()
    assert {answer.status for answer in answers} == {201}
    return (after.user - before.user + after.system - before.system) / len(answers)
