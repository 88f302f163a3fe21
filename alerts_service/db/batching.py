"""Combines concurrent calls into batches.

Most of the cost of a small SQL statement is the fixed work for each round trip, in the client and in the server. Calls
that arrive while batches are being sent are queued, and form the next batch. A call is never delayed to fill a batch.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Generic

from msgspec import structs

from alerts_service.db.fair_queue import (
    MAX_QUEUE_SIZE,
    Argument,
    FairQueue,
    Output,
    QueuedCall,
    QueueTimeout,
    fail_pending,
)

# A failed batch is split into this many parts: one invalid call among 64 costs 1 + 8 + 8 statements.
PARTS_OF_FAILED_BATCH = 8
# A retried call may be queued for this many times the queue timeout: slow calls before it may time out again.
RETRY_TIMEOUT_FACTOR = 5


class Batcher(Generic[Argument, Output]):
    """Combines concurrent calls into batches.

    The function `send` receives the arguments of a batch and returns their results in the same order. At most
    `max_in_flight` batches of at most `max_batch_size` calls are sent at a time. Up to `max_queue_size` further calls
    are queued, each for at most `queue_timeout` seconds. The queue is served round-robin by key and limits the calls of
    a key; see `FairQueue`. A batch accepts no calls after it is sent, so a read that starts after a write sees
    the write.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Argument]], Awaitable[Sequence[Output]]],
        *,
        max_in_flight: int = 2,
        max_batch_size: int = 64,
        max_queue_size: int = MAX_QUEUE_SIZE,
        queue_timeout: float = 2.0,
        split_on: tuple[type[Exception], ...] = (),
        retry_on: tuple[type[Exception], ...] = (),
    ) -> None:
        """Set the limits, and the reaction to exceptions of `send` for a batch of several calls.

        An exception of `split_on` means that no call of the batch was executed. The batch is then split into parts,
        down to single calls, so that only the calls that cause the error fail. After an exception of `retry_on`, such
        as the timeout of a read, each call is queued again once, to be sent alone. After any other exception all calls
        of the batch fail.
        """
        self._send = send
        self._free_slots = max_in_flight
        self._max_batch_size = max_batch_size
        self._queue: FairQueue[Argument, Output] = FairQueue(max_queue_size)
        self._queue_timeout = queue_timeout
        self._split_on, self._retry_on = split_on, retry_on
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: Hashable, argument: Argument) -> Output:
        """Send a call in a batch and return its result.

        Raises:
            QueueFull: the queue has no room for another call of this key.
            QueueTimeout: the call was not sent in time, or its part of a failed batch was not sent in time.
        """
        if not self._free_slots or self._queue:
            return await self._queue.add(key, argument, self._queue_timeout).future
        self._free_slots -= 1
        try:
            (result,) = await self._send((argument,))
        finally:
            self._release_slot()
        return result

    def _release_slot(self) -> None:
        self._free_slots += 1
        while self._free_slots and self._queue:
            if batch := self._queue.take(self._max_batch_size):
                self._free_slots -= 1
                # In an empty context: the log records of a batch belong to no single request.
                task = Context().run(asyncio.create_task, self._run_batch(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _run_batch(self, batch: list[QueuedCall[Argument, Output]]) -> None:
        try:
            await self._send_batch(batch)
        finally:
            self._release_slot()

    async def _send_batch(self, batch: list[QueuedCall[Argument, Output]]) -> None:
        try:
            results = await self._send([call.argument for call in batch])
        except BaseException as error:  # noqa: BLE001 - no call may wait without end: each call of the batch raises the error, a cancellation too
            if len(batch) > 1 and isinstance(error, self._split_on):
                await self._send_in_parts(batch)
            elif len(batch) > 1 and isinstance(error, self._retry_on):
                self._queue_again(batch)
            else:
                fail_pending(batch, error)
        else:
            for call, result in zip(batch, results, strict=True):
                if not call.future.done():
                    call.future.set_result(result)

    async def _send_in_parts(self, batch: list[QueuedCall[Argument, Output]]) -> None:
        size = math.ceil(len(batch) / PARTS_OF_FAILED_BATCH)
        for start in range(0, len(batch), size):
            if part := _fail_expired(batch[start : start + size]):
                await self._send_batch(part)

    def _queue_again(self, batch: list[QueuedCall[Argument, Output]]) -> None:
        deadline = asyncio.get_running_loop().time() + RETRY_TIMEOUT_FACTOR * self._queue_timeout
        for call in batch:
            if not call.future.done():
                self._queue.append(structs.replace(call, deadline=deadline, alone=True))


def _fail_expired(calls: list[QueuedCall[Argument, Output]]) -> list[QueuedCall[Argument, Output]]:
    """Fail the calls whose deadline has passed, and return the calls that are still pending."""
    now = asyncio.get_running_loop().time()
    fail_pending([call for call in calls if call.deadline < now], QueueTimeout())
    return [call for call in calls if not call.future.done()]
