"""The database's disk is full for a while."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load, assert_told_at_once
from tests.faults.postgres import Postgres, postgres, user
from tests.faults.service import service
from tests.support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A disk that is soon full."""
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        Path(folder).chmod(0o755)
        options = f"size={megabytes}m,uid={user() or ''},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def _enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)


async def _database_on(disk: Path, server: Postgres) -> str:
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
    await admin.execute("CREATE DATABASE alerts TABLESPACE small")
    await admin.close()
    return urlsplit(server.dsn)._replace(path="/alerts").geturl()


async def _fill(url: str) -> None:
    """Take all the room that there is."""
    writer = await asyncpg.connect(url)
    await writer.execute("CREATE TABLE filler (line text)")
    with suppress(asyncpg.DiskFullError):
        while True:
            await writer.execute("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 200)")
    await writer.close()


async def _raise_alerts(client: httpx.AsyncClient, wanted: int, times: int = 100) -> httpx.Response:
    """Raise large alerts until an answer has a status, which may take a few for what had been allotted before."""
    for _ in range(times):
        body = {"tenant_id": str(uuid4()), "rule_name": "full", "message": "".join(uuid4().hex for _ in range(300))}
        answer = await client.post("/alerts", json=body)
        if answer.status_code == wanted:
            return answer
    raise AssertionError(answer.text)


async def _fill_log(server: Postgres, seconds: float = 20) -> None:
    """Write as much as there is room for, until the server has given up."""
    assert server.process is not None
    deadline = time.monotonic() + seconds
    while server.process.poll() is None:
        assert time.monotonic() < deadline
        with suppress(OSError, asyncpg.PostgresError):
            writer = await asyncpg.connect(server.dsn)
            while True:
                await writer.execute("SELECT pg_logical_emit_message(false, 'full', repeat('x', 1000000))")
        await asyncio.sleep(0.02)


async def test_a_full_disk(tmp_path: Path) -> None:
    """While the disk is full an alert is refused with 503, what there is can be read, and then all is as before."""
    with small_disk(24) as disk, postgres(autovacuum="off") as server:
        url = await _database_on(disk, server)
        with serving(tmp_path, DATABASE_URL=url) as running:
            async with httpx.AsyncClient(base_url=running.url, verify=False) as client:
                first = (await _raise_alerts(client, 201)).json()
                await _fill(url)
                refused = await _raise_alerts(client, 503)
                assert refused.json() == {"error": "Service unavailable", "detail": "the database is out of resources"}
                assert refused.headers["retry-after"] == "1"
                assert (await client.get(f"/alerts/{first['id']}")).json() == first
                assert (await client.get("/health")).status_code == 200
                _enlarge(disk)
                await _raise_alerts(client, 201)
            lines = running.stop()
    assert any("No space left on device" in line.get("reason", "") for line in lines)
    assert [line for line in lines if "Unforeseen" in line["message"]] == []


async def test_a_full_disk_under_the_log(tmp_path: Path, report: Report) -> None:
    """When its log has no room PostgreSQL ends; callers are told so at once, and with room nothing is lost."""
    with small_disk(48) as disk, postgres(log_folder=disk / "log") as database:
        async with service(tmp_path, DATABASE_URL=database.dsn) as process, Load(process.url) as load:
            await load.answered(300)
            full = time.monotonic()
            await _fill_log(database)
            _enlarge(disk)
            await asyncio.to_thread(database.start)
            assert_told_at_once(load.troubled(full))
            await load.answered(100, seconds=5)
        report("PostgreSQL's write-ahead log on a full disk", 1, await load.check(database.dsn))
