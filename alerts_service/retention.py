"""Deletes alerts that were resolved long enough ago, a batch at a time, so that nobody waits for it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

from msgspec import Struct, structs

from alerts_service.database import Database, Statement
from alerts_service.errors import DatabaseUnreachable, Refusal

logger = logging.getLogger(__name__)

ROUND_SECONDS = 300
MOST = 500_000  # events that an alert may have to be deleted within the time that a statement may take
RESTS = 9  # for nine times as long as it worked: a tenth of one connection's time at most


class Due(Struct, frozen=True):
    """What may go."""

    alerts: int
    events: int


class Batch(Due, frozen=True):
    """What went with one statement, and when the last of it was resolved."""

    until: datetime | None


class Pruned(Struct):
    """What went in all."""

    alerts: int = 0
    events: int = 0
    batches: int = 0
    seconds: float = 0.0

    def add(self, batch: Batch, seconds: float) -> None:
        """Count one more batch, which took so long."""
        self.alerts += batch.alerts
        self.events += batch.events
        self.batches += 1
        self.seconds = round(self.seconds + seconds, 3)


COUNT = Statement("retention/count", Due)
PRUNE = Statement("retention/prune", Batch)


async def prune(run: Callable[[datetime | None], Awaitable[Batch]], pruned: Pruned, *, rests: int = 0) -> None:
    """Run batch after batch, each from the last one's time on, until none is left, and add up what went.

    After each, rest for `rests` times as long as it took.
    """
    since = None
    while True:
        started = time.monotonic()
        batch = await run(since)
        if not batch.alerts:
            return
        seconds = time.monotonic() - started
        pruned.add(batch, seconds)
        since = batch.until
        await asyncio.sleep(rests * seconds)


@asynccontextmanager
async def pruning(days: int | None, database: Callable[[], Database]) -> AsyncIterator[None]:
    """Prune every few minutes what was resolved more than so many days ago; nothing without `days`."""
    if days is None:
        yield
        return
    task = asyncio.create_task(_keep_pruning(days, database))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _keep_pruning(days: int, database: Callable[[], Database]) -> None:
    while True:
        await _prune_once(days, database())
        await asyncio.sleep(ROUND_SECONDS)


async def _prune_once(days: int, database: Database) -> None:
    """Leave to the next round what cannot be done now."""
    pruned = Pruned()
    try:
        await prune(lambda since: database.one(PRUNE, days=days, since=since, most=MOST), pruned, rests=RESTS)
    except DatabaseUnreachable:
        pass  # which has been logged
    except Refusal as refusal:
        logger.warning("Pruning is put off: %s", refusal.detail)
    except Exception:
        logger.exception("Pruning is put off")
    finally:
        if pruned.alerts:
            logger.info("Pruned resolved alerts", extra=structs.asdict(pruned))
