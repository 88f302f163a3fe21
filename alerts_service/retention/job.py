"""Deletes alerts that were resolved long enough ago, and expired idempotency keys, in batches that hold up nobody."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct, structs

from alerts_service.db.database import Statement
from alerts_service.db.statement_runner import StatementRunner
from alerts_service.errors import ApiError, DatabaseUnreachable

logger = logging.getLogger(__name__)

ROUND_SECONDS = 300
MOST = 500_000  # events that an alert may have to be deleted within the time that a statement may take
RESTS = 9  # for nine times as long as it worked: a tenth of one connection's time at most


class Due(Struct, frozen=True):
    """What may go."""

    alerts: int
    events: int
    keys: int


class AlertBatch(Struct, frozen=True):
    """The alerts that one statement deleted, with their events, and when the last of them was resolved."""

    alerts: int
    events: int
    until: datetime | None


class KeyBatch(Struct, frozen=True):
    """The idempotency keys that one statement deleted, and when the last of them was stored."""

    keys: int
    until: datetime | None


Batch: TypeAlias = AlertBatch | KeyBatch


class Pruned(Struct):
    """What was deleted in all batches, and how long that took."""

    alerts: int = 0
    events: int = 0
    keys: int = 0
    batches: int = 0
    seconds: float = 0.0

    def add(self, batch: Batch, seconds: float) -> None:
        """Count one more batch, which took so long."""
        if isinstance(batch, KeyBatch):
            self.keys += batch.keys
        else:
            self.alerts += batch.alerts
            self.events += batch.events
        self.batches += 1
        self.seconds = round(self.seconds + seconds, 3)


COUNT = Statement("retention/count", Due)
PRUNE = Statement("retention/prune", AlertBatch)
PRUNE_KEYS = Statement("idempotency/prune", KeyBatch)


async def prune(run: Callable[[datetime | None], Awaitable[Batch]], pruned: Pruned, *, rests: int = 0) -> None:
    """Run batch after batch, each from the last one's time on, until none is left, and add up what went.

    After each, rest for `rests` times as long as it took.
    """
    since = None
    while True:
        started = time.monotonic()
        batch = await run(since)
        if batch.until is None:
            return
        seconds = time.monotonic() - started
        pruned.add(batch, seconds)
        since = batch.until
        await asyncio.sleep(rests * seconds)


@asynccontextmanager
async def pruning(days: int | None, database: Callable[[], StatementRunner]) -> AsyncIterator[None]:
    """Prune every few minutes: expired keys, and with `days` what was resolved more than so many days ago."""
    tasks = [asyncio.create_task(_keep_pruning("Pruned expired idempotency keys", database, PRUNE_KEYS))]
    if days is not None:
        alerts = _keep_pruning("Pruned resolved alerts", database, PRUNE, days=days, most=MOST)
        tasks.append(asyncio.create_task(alerts))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_pruning(
    message: str, database: Callable[[], StatementRunner], statement: Statement[Any], **arguments: int
) -> None:
    while True:
        await _prune_once(message, database(), statement, **arguments)
        await asyncio.sleep(ROUND_SECONDS)


async def _prune_once(message: str, database: StatementRunner, statement: Statement[Any], **arguments: int) -> None:
    """Leave to the next round what cannot be done now."""
    pruned = Pruned()
    try:
        await prune(lambda since: database.one(statement, since=since, **arguments), pruned, rests=RESTS)
    except DatabaseUnreachable:
        pass  # which has been logged
    except ApiError as refusal:
        logger.warning("Pruning is put off: %s", refusal.detail)
    except Exception:
        logger.exception("Pruning is put off")
    finally:
        if pruned.batches:
            logger.info(message, extra=structs.asdict(pruned))
