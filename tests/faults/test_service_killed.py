"""The service dies under load and is started again."""

from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.faults.postgres import postgres
from tests.faults.service import service
from tests.support.processes import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

TIMES = 5


async def test_a_killed_service(tmp_path: Path, report: Report) -> None:
    """Whatever was answered before the service was killed is there afterwards, once."""
    port = free_port()
    with postgres() as database:
        async with Load(f"http://127.0.0.1:{port}") as load:
            for _ in range(TIMES):
                async with service(tmp_path, port=port, DATABASE_URL=database.dsn) as process:
                    await load.wait_for_successes(200)
                    process.process.kill()
            async with service(tmp_path, port=port, DATABASE_URL=database.dsn):
                await load.wait_for_successes(200)
                await load.stop()
        report("service killed (`kill -9`) and restarted", TIMES, await load.check(database.dsn))
