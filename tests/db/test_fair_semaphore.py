"""Slots of the fair semaphore: limits, order, timeouts and cancellation."""

import asyncio

import pytest

from alerts_service.db.fair_queue import QueueFull, QueueTimeout
from alerts_service.db.fair_semaphore import FairSemaphore

pytestmark = pytest.mark.anyio


class Blocks:
    """Tasks that hold a slot until `end` is set, and the order in which they received it."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore = semaphore
        self.started: list[str] = []
        self.end = asyncio.Event()

    async def start(self, *keys: str) -> "list[asyncio.Task[None]]":
        tasks = [asyncio.create_task(self._run(key)) for key in keys]
        await settle()
        return tasks

    async def _run(self, key: str) -> None:
        async with self._semaphore.slot(key):
            self.started.append(key)
            await self.end.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_waiters_are_served_round_robin_by_key() -> None:
    blocks = Blocks(FairSemaphore(max_in_flight=2, queue_timeout=5))
    tasks = await blocks.start("a", "a", "b", "b", "b", "c")
    assert blocks.started == ["a", "a"]
    blocks.end.set()
    await asyncio.gather(*tasks)
    assert blocks.started == ["a", "a", "b", "c", "b", "b"]


async def test_a_waiter_times_out() -> None:
    blocks = Blocks(FairSemaphore(max_in_flight=1, queue_timeout=0.05))
    holder, late = await blocks.start("a", "b")
    with pytest.raises(QueueTimeout):
        await late
    blocks.end.set()
    await asyncio.gather(holder, *await blocks.start("c"))
    assert blocks.started == ["a", "c"]


async def test_a_key_with_many_waiters_is_rejected_and_another_is_not() -> None:
    blocks = Blocks(FairSemaphore(max_in_flight=1, queue_timeout=5, max_queue_size=4))
    tasks = await blocks.start("a", "a", "a", "a", "b")
    with pytest.raises(QueueFull):
        await tasks.pop(3)
    blocks.end.set()
    await asyncio.gather(*tasks)
    assert blocks.started == ["a", "a", "b", "a"]


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    blocks = Blocks(FairSemaphore(max_in_flight=1, queue_timeout=5))
    holder, cancelled, last = await blocks.start("a", "b", "c")
    cancelled.cancel()
    blocks.end.set()
    await asyncio.gather(holder, last)
    assert blocks.started == ["a", "c"]


async def test_a_waiter_that_is_cancelled_after_it_received_the_slot_passes_it_on() -> None:
    semaphore = FairSemaphore(max_in_flight=1, queue_timeout=5)
    blocks = Blocks(semaphore)
    async with semaphore.slot("a"):
        first, second = await blocks.start("b", "c")
    # The slot now belongs to the first waiter, whose task has not run since.
    first.cancel()
    blocks.end.set()
    await asyncio.wait_for(second, 1)
    assert (first.cancelled(), blocks.started) == (True, ["c"])
    await asyncio.gather(*await blocks.start("d"))


async def test_a_waiter_that_is_cancelled_as_it_times_out_passes_no_slot_on() -> None:
    semaphore = FairSemaphore(max_in_flight=1, queue_timeout=5)
    blocks = Blocks(semaphore)
    (holder,) = await blocks.start("a")
    waiters = await blocks.start("b")
    semaphore._queue.take(1)[0].future.set_exception(QueueTimeout())  # noqa: SLF001 - both events in one turn of the loop
    waiters[0].cancel()
    await asyncio.wait(waiters)
    (other,) = await blocks.start("c")
    assert blocks.started == ["a"]
    blocks.end.set()
    await asyncio.gather(holder, other)


async def test_a_block_that_raises_releases_its_slot() -> None:
    semaphore = FairSemaphore(max_in_flight=1, queue_timeout=0.05)
    for _ in range(3):
        with pytest.raises(ValueError, match="failed"):
            async with semaphore.slot("a"):
                raise ValueError("failed")
