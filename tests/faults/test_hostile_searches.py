"""A hundred thousand searches of random and hostile text, beside the ordinary ones of another tenant."""

import asyncio
import random
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest

from tests.faults.postgres import postgres
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

SEARCHES, CONNECTIONS = 100_000, 64
MESSAGES = ["Missed call from +1 555-0100", "a_" * 500, "Straße (50%) \\ 'x' | y & !z", "-" * 100 + "é💥" * 50]
PIECES = [
    "-",
    "--",
    '"',
    " ",
    " or ",
    "OR",
    "(",
    ")",
    "!",
    "&",
    "|",
    ":*",
    "<->",
    "'",
    "\\",
    "*",
    "?",
    "+",
    "{9}",
    "[",
    "]",
]
PIECES += [
    "(?=",
    "(?<!",
    "\\m",
    "\\1",
    "***=",
    "^",
    "$",
    ".",
    "a",
    "call",
    "é",
    "ß",
    "İ",
    "ﬁ",
    "💥",
    "\u0301",
    "\u202e",
    "\x01",
    "\n",
    "½",
    "٣",
]


def query(mood: random.Random) -> str:
    """Make a text of 1 to 200 characters: one piece over and over, a few pieces, or any characters at all."""
    length = mood.choice([1, 2, 33, 60, 200, mood.randint(1, 200)])
    kind = mood.random()
    if kind < 0.2:
        text = mood.choice(PIECES) * length
    elif kind < 0.7:
        text = "".join(mood.choices(PIECES, k=length))
    else:
        text = "".join(chr(mood.choice([mood.randint(1, 0x7F), mood.randint(0x80, 0xD7FF)])) for _ in range(length))
    return text[:200]


async def search(port: int, tenant: str, queries: list[str]) -> list[tuple[str, bytes]]:
    """Send one search after the other, and return those that were not answered with 200, and with what."""
    failed = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for q in queries:
        target = f"/alerts?tenant_id={tenant}&q={quote(q, safe='')}"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if answer[9:12] != b"200":
            failed.append((q, answer + body))
    writer.close()
    await writer.wait_closed()
    return failed


async def test_every_search_is_answered_with_200(tmp_path: Path) -> None:
    mood = random.Random(33)
    tenants = [str(uuid4()), str(uuid4())]
    with postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        connection = await asyncpg.connect(database.dsn)
        sql = "INSERT INTO alerts (tenant_id, rule_name, message) SELECT t, 'r', m FROM unnest($1::uuid[]) t, "
        sql += "unnest($2::text[]) m"
        await connection.execute(sql, tenants, MESSAGES)
        await connection.close()
        port = int(service.url.rsplit(":", 1)[1])
        hostile = [[query(mood) for _ in range(SEARCHES // CONNECTIONS)] for _ in range(CONNECTIONS)]
        searching = asyncio.gather(*(search(port, tenants[0], queries) for queries in hostile))
        neighbours = 0
        while not searching.done():
            assert await search(port, tenants[1], ["missed call", "-nowhere"]) == []
            neighbours += 2
        failed = [failure for failures in await searching for failure in failures]
        lines = service.stop()
    assert failed == []
    assert neighbours > 1000
    assert [line for line in lines if line["level"] != "INFO" and line["logger"] != "alerts_service.app"] == []
