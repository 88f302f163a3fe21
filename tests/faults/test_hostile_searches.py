"""One tenant sends 100,000 searches for random and hostile text, beside ordinary searches of another tenant."""

import asyncio
import random
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest

from tests.faults.postgres import running_postgres
from tests.faults.service import port_of
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

SEARCHES, CONNECTIONS = 100_000, 64
MESSAGES = ["Missed call from +1 555-0100", "a_" * 500, "Straße (50%) \\ 'x' | y & !z", "-" * 100 + "é💥" * 50]
OPERATORS = ["-", "--", '"', " ", " or ", "OR", "(", ")", "!", "&", "|", ":*", "<->", "'", "\\", "*", "?", "+"]
REGULAR_EXPRESSIONS = ["{9}", "[", "]", "(?=", "(?<!", "\\m", "\\1", "***=", "^", "$", "."]
LETTERS = ["a", "call", "é", "ß", "İ", "ﬁ", "💥", "\u0301", "\u202e", "\x01", "\n", "½", "٣"]
FRAGMENTS = [*OPERATORS, *REGULAR_EXPRESSIONS, *LETTERS]


def random_search_text(rng: random.Random) -> str:
    """Return 1 to 200 characters: one fragment repeated, a mix of fragments, or arbitrary characters."""
    length = rng.choice([1, 2, 33, 60, 200, rng.randint(1, 200)])
    kind = rng.random()
    if kind < 0.2:
        text = rng.choice(FRAGMENTS) * length
    elif kind < 0.7:
        text = "".join(rng.choices(FRAGMENTS, k=length))
    else:
        text = "".join(chr(rng.choice([rng.randint(1, 0x7F), rng.randint(0x80, 0xD7FF)])) for _ in range(length))
    return text[:200]


async def search(port: int, tenant: str, texts: list[str]) -> list[tuple[str, bytes]]:
    """Send searches over one connection, and return those whose response is not 200, with the response."""
    failed = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for text in texts:
        target = f"/alerts?tenant_id={tenant}&q={quote(text, safe='')}"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if head[9:12] != b"200":
            failed.append((text, head + body))
    writer.close()
    await writer.wait_closed()
    return failed


async def test_every_search_text_is_answered_with_200(tmp_path: Path) -> None:
    rng = random.Random(33)
    tenants = [str(uuid4()), str(uuid4())]
    with running_postgres() as database, serving(tmp_path, DATABASE_URL=database.dsn) as service:
        connection = await asyncpg.connect(database.dsn)
        await connection.execute(
            "INSERT INTO alerts (tenant_id, rule_name, message)"
            " SELECT tenant_id, 'r', message FROM unnest($1::uuid[]) AS tenant_id, unnest($2::text[]) AS message",
            tenants,
            MESSAGES,
        )
        await connection.close()
        port = port_of(service)
        texts = [[random_search_text(rng) for _ in range(SEARCHES // CONNECTIONS)] for _ in range(CONNECTIONS)]
        hostile_searches = asyncio.gather(*(search(port, tenants[0], batch) for batch in texts))
        ordinary_searches = 0
        while not hostile_searches.done():
            assert await search(port, tenants[1], ["missed call", "-nowhere"]) == []
            ordinary_searches += 2
        failed = [failure for failures in await hostile_searches for failure in failures]
        lines = service.stop()
    assert failed == []
    assert ordinary_searches > 1000
    assert [line for line in lines if line["level"] != "INFO" and line["logger"] != "alerts_service.app"] == []
