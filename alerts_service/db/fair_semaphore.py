"""Semaphore that serves its waiters round-robin by key."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from alerts_service.db.fair_queue import MAX_QUEUE_SIZE, FairQueue


class FairSemaphore:
    """Semaphore with a fair queue, so that a key with many waiters delays the waiters of another key by one turn only.

    At most `max_in_flight` slots are held at a time. Up to `max_queue_size` waiters are queued, each for at most
    `queue_timeout` seconds; see `FairQueue`.
    """

    def __init__(self, *, max_in_flight: int, queue_timeout: float, max_queue_size: int = MAX_QUEUE_SIZE) -> None:
        self._free_slots = max_in_flight
        self._queue: FairQueue[None, None] = FairQueue(max_queue_size)
        self._queue_timeout = queue_timeout

    @asynccontextmanager
    async def slot(self, key: Hashable) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Raises:
            QueueFull: the queue has no room for another waiter of this key.
            QueueTimeout: no slot was released in time.
        """
        if self._free_slots:  # the queue is then empty, as `_release` passes a slot directly to a queued waiter
            self._free_slots -= 1
        else:
            await self._wait(key)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, key: Hashable) -> None:
        future = self._queue.add(key, None, self._queue_timeout).future
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._release()  # the waiter was cancelled after it had received the slot
            raise

    def _release(self) -> None:
        if waiters := self._queue.take(1):
            waiters[0].future.set_result(None)
        else:
            self._free_slots += 1
