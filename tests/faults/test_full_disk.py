"""The disk of the database is full for a while."""

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

from tests.faults.load import Load, assert_failed_fast
from tests.faults.postgres import Postgres, os_user, running_postgres
from tests.faults.report import ReportFault
from tests.support.processes import running_service, serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


@contextmanager
def mounted_tmpfs(megabytes: int) -> Iterator[Path]:
    """Mount a file system of this size until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        Path(folder).chmod(0o755)
        options = f"size={megabytes}m,uid={os_user() or ''},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def _enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)


async def _create_database(disk: Path, server: Postgres) -> str:
    """Create a database in a tablespace on the disk, and return its DSN."""
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
    await admin.execute("CREATE DATABASE alerts TABLESPACE small")
    await admin.close()
    return urlsplit(server.dsn)._replace(path="/alerts").geturl()


async def _fill_tablespace(dsn: str) -> None:
    """Insert rows until the disk is full."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE filler (line text)")
    with suppress(asyncpg.DiskFullError):
        while True:
            await connection.execute("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 200)")
    await connection.close()


async def _create_until_status(client: httpx.AsyncClient, status: int, attempts: int = 100) -> httpx.Response:
    """Create large alerts until a response has this status.

    On a full disk the first creates may succeed, in pages of the table that are allocated already.
    """
    for _ in range(attempts):
        body = {"tenant_id": str(uuid4()), "rule_name": "full", "message": "".join(uuid4().hex for _ in range(300))}
        response = await client.post("/alerts", json=body)
        if response.status_code == status:
            return response
    raise AssertionError(response.text)


async def _fill_wal(server: Postgres, seconds: float = 20) -> None:
    """Write to the write-ahead log until its disk is full and the server has exited."""
    assert server.process is not None
    deadline = time.monotonic() + seconds
    while server.process.poll() is None:
        assert time.monotonic() < deadline
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(server.dsn)
            while True:
                await connection.execute("SELECT pg_logical_emit_message(false, 'full', repeat('x', 1000000))")
        await asyncio.sleep(0.02)


async def test_creates_are_rejected_with_503_while_the_disk_is_full(tmp_path: Path) -> None:
    """Reads and `/health` succeed meanwhile, and creates succeed once there is space."""
    with mounted_tmpfs(24) as disk, running_postgres(autovacuum="off") as server:
        dsn = await _create_database(disk, server)
        with serving(tmp_path, DATABASE_URL=dsn) as service:
            async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
                first = (await _create_until_status(client, 201)).json()
                await _fill_tablespace(dsn)
                rejected = await _create_until_status(client, 503)
                assert rejected.json() == {"error": "Service unavailable", "detail": "the database is out of resources"}
                assert rejected.headers["retry-after"] == "1"
                assert (await client.get(f"/alerts/{first['id']}")).json() == first
                assert (await client.get("/health")).status_code == 200
                _enlarge(disk)
                await _create_until_status(client, 201)
            lines = service.stop()
    assert any("No space left on device" in line.get("reason", "") for line in lines)
    assert [line for line in lines if line["message"].startswith(("unhandled", "unexpected"))] == []


async def test_requests_fail_fast_while_the_write_ahead_log_has_no_space(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    """PostgreSQL exits when it cannot write its log; after a restart with more space no change is lost."""
    with mounted_tmpfs(48) as disk, running_postgres(wal_dir=disk / "log") as database:
        async with running_service(tmp_path, DATABASE_URL=database.dsn) as service, Load(service.url) as load:
            await load.wait_for_successes(300)
            filled_at = time.monotonic()
            await _fill_wal(database)
            _enlarge(disk)
            await asyncio.to_thread(database.start)
            assert_failed_fast(load.failed_since(filled_at))
            await load.wait_for_successes(100, seconds=5)
        report_fault("disk of PostgreSQL's write-ahead log full", 1, await load.check(database.dsn))
