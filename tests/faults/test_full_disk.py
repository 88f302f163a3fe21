"""The database's disk is full for a while."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.faults.postgres import Postgres, postgres, user
from tests.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk of 24 MB."""
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        Path(folder).chmod(0o755)
        options = f"size=24m,uid={user() or ''},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def _enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


async def _database_on(disk: Path, server: Postgres) -> str:
    admin = await asyncpg.connect(server.dsn)
    await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
    await admin.execute("CREATE DATABASE alerts TABLESPACE small")
    await admin.close()
    return urlsplit(server.dsn)._replace(path="/alerts").geturl()


async def _raise_alerts(client: httpx.AsyncClient, wanted: int, seconds: float = 30) -> httpx.Response:
    """Raise large alerts until an answer has a status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        body = {"tenant_id": str(uuid4()), "rule_name": "full", "message": "".join(uuid4().hex for _ in range(300))}
        answer = await client.post("/alerts", json=body)
        if answer.status_code == wanted:
            return answer
    raise AssertionError(answer.text)


async def test_a_full_disk(tmp_path: Path) -> None:
    """While the disk is full an alert is refused with 503, what there is can be read, and then all is as before."""
    with small_disk() as disk, postgres() as server:
        url = await _database_on(disk, server)
        with serving(tmp_path, DATABASE_URL=url) as service:
            async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
                first = (await _raise_alerts(client, 201)).json()
                refused = await _raise_alerts(client, 503)
                assert refused.json() == {"error": "Service unavailable", "detail": "the database has no room"}
                assert refused.headers["retry-after"] == "1"
                assert (await client.get(f"/alerts/{first['id']}")).json() == first
                assert (await client.get("/health")).status_code == 200
                _enlarge(disk)
                await _raise_alerts(client, 201)
            lines = service.stop()
    assert any("No space left on device" in line["message"] for line in lines)
    assert [line for line in lines if "Unforeseen" in line["message"]] == []
