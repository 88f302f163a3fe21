"""Statements that PostgreSQL rejects because of one item of a batch."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from alerts_service.alerts.statements import CREATE
from alerts_service.alerts.structs import CreatedRow
from alerts_service.db.migrations import migrate
from alerts_service.errors import DatabaseBusy, OutOfResources
from tests.support.database import open_database

pytestmark = pytest.mark.anyio

REJECTING_TRIGGER = """
CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.message = 'invalid' THEN
        RAISE 'rejected' USING ERRCODE = '{sqlstate}';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER reject BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION reject();
"""


def create_parameters(message: str) -> dict[str, Any]:
    texts = {"rule_name": "r", "message": message, "severity": "low", "actor": "anonymous", "request_id": None}
    return {"id": uuid4(), "tenant_id": uuid4(), **texts}


@pytest.mark.parametrize(
    ("sqlstate", "error"),
    [
        ("XX000", asyncpg.InternalServerError),
        ("54001", asyncpg.StatementTooComplexError),
        ("53200", OutOfResources),
        ("P0001", asyncpg.RaiseError),
    ],
)
async def test_an_item_that_the_server_rejects_fails_alone(
    empty_database: str, sqlstate: str, error: type[Exception]
) -> None:
    """Every other alert of the batch is created exactly once."""
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    await connection.execute(REJECTING_TRIGGER.format(sqlstate=sqlstate))
    messages = ["invalid" if number == 20 else str(number) for number in range(60)]
    async with open_database(empty_database, pool_size=2, pool_timeout=2, statement_timeout=5) as database:
        calls = [database.one(CREATE, **create_parameters(message)) for message in messages]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    stored = await connection.fetch("SELECT message FROM alerts")
    await connection.close()
    assert [type(outcome) for outcome in outcomes] == [
        error if message == "invalid" else CreatedRow for message in messages
    ]
    assert sorted(row["message"] for row in stored) == sorted(set(messages) - {"invalid"})


async def test_a_bulk_call_that_waited_too_long_skips_its_other_batches(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    await connection.close()
    items = [create_parameters(str(number)) for number in range(1000)]
    loop = asyncio.get_running_loop()
    async with (
        open_database(empty_database, pool_size=2, pool_timeout=0.3, statement_timeout=5) as database,
        database._bulk_slots.slot("a"),  # noqa: SLF001 - occupies a slot
        database._bulk_slots.slot("b"),  # noqa: SLF001 - occupies the other slot
    ):
        started_at = loop.time()
        results = await database.many(CREATE, items, lambda row: row)
        seconds = loop.time() - started_at
    assert [type(result) for result in results] == [DatabaseBusy] * 1000
    assert seconds < 0.9, "waited for several batches"
