"""The service is killed under load and started again."""

from pathlib import Path

import pytest

from tests.faults.load import Load
from tests.faults.postgres import running_postgres
from tests.faults.report import ReportFault
from tests.support.processes import free_port, running_service

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

KILLS = 5


async def test_changes_answered_before_the_service_was_killed_are_stored_once(
    tmp_path: Path, report_fault: ReportFault
) -> None:
    port = free_port()
    with running_postgres() as database:
        async with Load(f"http://127.0.0.1:{port}") as load:
            for _ in range(KILLS):
                async with running_service(tmp_path, port=port, DATABASE_URL=database.dsn) as service:
                    await load.wait_for_successes(200)
                    service.process.kill()
            async with running_service(tmp_path, port=port, DATABASE_URL=database.dsn):
                await load.wait_for_successes(200)
                await load.stop()
        report_fault("service killed (`kill -9`) and restarted", KILLS, await load.check(database.dsn))
