"""Deletes old resolved alerts and expired idempotency keys, in small batches with pauses between them."""

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

PRUNE_INTERVAL_SECONDS = 300
# An alert with more events could not be deleted within the statement timeout. `alerts-service prune` deletes it.
MAX_EVENTS_PER_ALERT = 500_000
# A pause of nine times the duration of the batch: the job uses one connection for a tenth of the time at most.
PAUSE_FACTOR = 9


class Expired(Struct, frozen=True):
    """The number of alerts, of their events, and of idempotency keys that have expired."""

    alerts: int
    events: int
    keys: int


class AlertBatch(Struct, frozen=True):
    """The number of alerts and events that one statement deleted, and when the last of the alerts was resolved."""

    alerts: int
    events: int
    until: datetime | None


class KeyBatch(Struct, frozen=True):
    """The number of idempotency keys that one statement deleted, and when the last of them was stored."""

    keys: int
    until: datetime | None


Batch: TypeAlias = AlertBatch | KeyBatch


class Pruned(Struct):
    """Totals of one prune run: deleted rows, batches, and the duration of the statements in seconds."""

    alerts: int = 0
    events: int = 0
    keys: int = 0
    batches: int = 0
    seconds: float = 0.0

    def add(self, batch: Batch, seconds: float) -> None:
        """Add a batch that took this number of seconds."""
        if isinstance(batch, KeyBatch):
            self.keys += batch.keys
        else:
            self.alerts += batch.alerts
            self.events += batch.events
        self.batches += 1
        self.seconds = round(self.seconds + seconds, 3)


COUNT = Statement("retention/count", Expired)
PRUNE = Statement("retention/prune", AlertBatch)
PRUNE_KEYS = Statement("idempotency/prune", KeyBatch)


async def prune(
    run_batch: Callable[[datetime | None], Awaitable[Batch]], pruned: Pruned, *, pause_factor: int = 0
) -> None:
    """Delete batch after batch until one is empty, and add each to the totals.

    Each batch starts at the time where the previous one ended, past the rows that are already deleted. A batch is
    followed by a pause of `pause_factor` times its duration.
    """
    since = None
    while True:
        started = time.monotonic()
        batch = await run_batch(since)
        if batch.until is None:
            return
        seconds = time.monotonic() - started
        pruned.add(batch, seconds)
        since = batch.until
        await asyncio.sleep(pause_factor * seconds)


@asynccontextmanager
async def pruning(days: int | None, database: Callable[[], StatementRunner]) -> AsyncIterator[None]:
    """Prune every five minutes while the block runs.

    Expired idempotency keys are always deleted, alerts that were resolved more than `days` days ago only with `days`.
    """
    tasks = [asyncio.create_task(_prune_periodically("Pruned expired idempotency keys", database, PRUNE_KEYS))]
    if days is not None:
        alerts = _prune_periodically(
            "Pruned resolved alerts", database, PRUNE, days=days, max_events=MAX_EVENTS_PER_ALERT
        )
        tasks.append(asyncio.create_task(alerts))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _prune_periodically(
    log_message: str, database: Callable[[], StatementRunner], statement: Statement[Any], **parameters: int
) -> None:
    while True:
        await _prune_once(log_message, database(), statement, **parameters)
        await asyncio.sleep(PRUNE_INTERVAL_SECONDS)


async def _prune_once(
    log_message: str, database: StatementRunner, statement: Statement[Any], **parameters: int
) -> None:
    """Prune, and log the totals. After an error, the rest is left to the next run."""
    pruned = Pruned()
    try:
        await prune(lambda since: database.one(statement, since=since, **parameters), pruned, pause_factor=PAUSE_FACTOR)
    except DatabaseUnreachable:
        pass  # The connection pool has logged it.
    except ApiError as error:
        logger.warning("Pruning postponed", extra={"reason": error.detail})
    except Exception:
        logger.exception("Pruning failed")
    finally:
        if pruned.batches:
            logger.info(log_message, extra=structs.asdict(pruned))
