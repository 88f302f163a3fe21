"""Background tasks that delete expired alerts and idempotency keys, in small batches with pauses.

An alert expires AS_ALERTS_RETENTION_DAYS days after it was resolved. An idempotency key expires after 24 hours.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct, structs

from alerts_service.db.statement_runner import StatementRunner
from alerts_service.db.statements import Statement
from alerts_service.errors import ApiError, DatabaseUnreachable

logger = logging.getLogger(__name__)

PRUNE_INTERVAL_SECONDS = 300
# Deleting an alert with more events would exceed the statement timeout. `alerts-service prune` deletes such alerts.
MAX_EVENTS_PER_ALERT = 500_000
# The pause is nine times the duration of the batch. Each of the two tasks (alerts, idempotency keys) therefore uses a
# connection for at most a tenth of the time.
PAUSE_FACTOR = 9


class ExpiredCounts(Struct, frozen=True):
    """The numbers of expired alerts, of their events, and of expired idempotency keys."""

    alerts: int
    events: int
    keys: int


class AlertBatch(Struct, frozen=True):
    """The numbers of alerts and events that one statement deleted, and the latest `resolved_at` of these alerts."""

    alerts: int
    events: int
    until: datetime | None


class KeyBatch(Struct, frozen=True):
    """The number of idempotency keys that one statement deleted, and the latest `created_at` of these keys."""

    keys: int
    until: datetime | None


Batch: TypeAlias = AlertBatch | KeyBatch


class Pruned(Struct):
    """Totals of one run: deleted rows, batches, and the duration of the statements in seconds."""

    alerts: int = 0
    events: int = 0
    keys: int = 0
    batches: int = 0
    seconds: float = 0.0

    def add(self, batch: Batch, seconds: float) -> None:
        """Add a batch and its duration in seconds."""
        if isinstance(batch, KeyBatch):
            self.keys += batch.keys
        else:
            self.alerts += batch.alerts
            self.events += batch.events
        self.batches += 1
        self.seconds = round(self.seconds + seconds, 3)


COUNT = Statement("retention/count", ExpiredCounts)
PRUNE = Statement("retention/prune", AlertBatch)
PRUNE_KEYS = Statement("idempotency/prune", KeyBatch)


async def prune(
    run_batch: Callable[[datetime | None], Awaitable[Batch]], pruned: Pruned, *, pause_factor: int = 0
) -> None:
    """Delete batches of expired rows until none is left, and add each batch to the totals.

    Each batch starts at the time at which the previous batch ended, after the dead rows. After each batch, pause for
    `pause_factor` times the duration of the batch.
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

    Expired idempotency keys are always deleted. If `days` is set, alerts are deleted that many days after they were
    resolved.
    """
    tasks = [asyncio.create_task(_prune_periodically("pruned expired idempotency keys", database, PRUNE_KEYS))]
    if days is not None:
        alerts = _prune_periodically(
            "pruned resolved alerts", database, PRUNE, days=days, max_events=MAX_EVENTS_PER_ALERT
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
    """Prune, and log the totals. After an error, the next run continues."""
    pruned = Pruned()
    try:
        await prune(lambda since: database.one(statement, since=since, **parameters), pruned, pause_factor=PAUSE_FACTOR)
    except DatabaseUnreachable:
        pass  # The connection pool has already logged the failure.
    except ApiError as error:
        logger.warning("pruning postponed", extra={"reason": error.detail})
    except Exception:
        logger.exception("pruning failed")
    finally:
        if pruned.batches:
            logger.info(log_message, extra=structs.asdict(pruned))
