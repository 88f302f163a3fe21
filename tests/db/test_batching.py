"""The batcher: batch sizes, order, failed batches, limits of the queue, timeouts and cancelled calls."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timezone

import pytest

from alerts_service.db.batching import Batcher
from alerts_service.db.fair_queue import FairQueue, QueuedCall, QueueFull, QueueTimeout
from alerts_service.logging_config import RequestContext, RequestIdFilter, request_context

pytestmark = pytest.mark.anyio


class Sender:
    """Records each batch and, when `released` is set, returns ten times each item. Item 13 is invalid."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.released = asyncio.Event()

    async def send(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.released.wait()
        if 13 in items:
            raise ValueError(str(items))
        return [item * 10 for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def start_calls(batcher: Batcher[int, int], *items: int, key: str | None = "a") -> "list[asyncio.Task[int]]":
    """Start a call for each item, in order, and return the tasks as soon as each call is sent or queued."""
    tasks = [asyncio.create_task(batcher(key, item)) for item in items]
    await settle()
    return tasks


async def test_a_single_call_is_sent_at_once() -> None:
    sender = Sender()
    sender.released.set()
    assert await Batcher(sender.send)("a", 1) == 10
    assert sender.batches == [[1]]


async def test_only_a_call_that_is_sent_at_once_is_logged_with_its_request_id() -> None:
    """A queued call is sent in a batch, which belongs to no single request."""
    ids: list[str | None] = []

    async def send(items: Sequence[int]) -> Sequence[int]:
        record = logging.makeLogRecord({})
        RequestIdFilter().filter(record)
        ids.append(getattr(record, "request_id", None))
        await asyncio.sleep(0)
        return items

    batcher = Batcher(send, max_in_flight=1, max_batch_size=1)
    token = request_context.set(RequestContext(datetime.now(timezone.utc), "GET", "/", "the-id"))
    await asyncio.gather(*(batcher("a", item) for item in range(3)))
    request_context.reset(token)
    assert ids == ["the-id", None, None]


async def test_calls_queued_while_batches_are_in_flight_are_sent_in_one_batch() -> None:
    sender = Sender()
    calls = await start_calls(Batcher(sender.send), 0, 1, 2, 3, 4, 5)
    assert sender.batches == [[0], [1]]
    sender.released.set()
    assert await asyncio.gather(*calls) == [0, 10, 20, 30, 40, 50]
    assert sender.batches == [[0], [1], [2, 3, 4, 5]]


async def test_a_batch_has_at_most_max_batch_size_items() -> None:
    sender = Sender()
    calls = await start_calls(Batcher(sender.send, max_batch_size=3), *range(9))
    sender.released.set()
    await asyncio.gather(*calls)
    assert [len(items) for items in sender.batches] == [1, 1, 3, 3, 1]


async def test_keys_are_served_round_robin() -> None:
    sender = Sender()
    batcher = Batcher(sender.send, max_in_flight=1, max_batch_size=2)
    calls = await start_calls(batcher, *range(6)) + await start_calls(batcher, 100, key="b")
    sender.released.set()
    await asyncio.gather(*calls)
    assert sender.batches[:2] == [[0], [1, 100]]


async def test_a_failed_batch_is_split_so_that_only_the_invalid_item_fails() -> None:
    sender = Sender()
    calls = await start_calls(Batcher(sender.send, max_in_flight=1, split_on=(ValueError,)), 0, 1, 13, 2)
    sender.released.set()
    _, first, invalid, last = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, last) == (10, 20)
    assert isinstance(invalid, ValueError)
    assert sender.batches == [[0], [1, 13, 2], [1], [13], [2]]


async def test_a_failed_batch_is_split_into_eight_parts_at_a_time() -> None:
    """One invalid item among 64 therefore costs 17 statements instead of 65."""
    sender = Sender()
    calls = await start_calls(
        Batcher(sender.send, max_in_flight=1, split_on=(ValueError,)), 0, *range(100, 140), 13, *range(140, 163)
    )
    sender.released.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [result for result in results if not isinstance(result, int)] == [results[41]]
    assert [len(items) for items in sender.batches] == [1, 64, *[8] * 6, *[1] * 8, *[8] * 2]


async def test_each_call_of_a_batch_is_sent_once_more_alone_after_an_error_of_retry_on() -> None:
    """Calls that are already queued are sent first."""
    sender = Sender()
    calls = await start_calls(
        Batcher(sender.send, max_in_flight=1, max_batch_size=3, retry_on=(ValueError,)), 0, 1, 13, 2, 3
    )
    sender.released.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [result if isinstance(result, int) else type(result) for result in results] == [0, 10, ValueError, 20, 30]
    assert sender.batches == [[0], [1, 13, 2], [3], [1], [13], [2]]


async def test_a_batch_with_an_unknown_outcome_fails_and_is_not_sent_again() -> None:
    sender = Sender()
    calls = await start_calls(Batcher(sender.send, max_in_flight=1), 0, 1, 13)
    sender.released.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, ValueError]
    assert sender.batches == [[0], [1, 13]]


async def test_a_full_queue_rejects_a_call_at_once() -> None:
    """A single key may occupy half of the queue. Its calls are accepted again after a batch was sent."""
    sender = Sender()
    batcher = Batcher(sender.send, max_in_flight=1, max_queue_size=4)
    calls = await start_calls(batcher, 0, 1, 2)
    with pytest.raises(QueueFull):
        await batcher("a", 3)
    sender.released.set()
    await asyncio.gather(*calls)
    assert await batcher("a", 4) == 40


@pytest.mark.parametrize("busy", [["a"], ["a", "b"], ["a", None, "b", "c"]])
async def test_busy_keys_leave_room_for_other_keys(busy: list[str | None]) -> None:
    """However many calls n busy keys make, 1 / (n + 1) of the queue is free for the calls of other keys."""
    size, sender = 60, Sender()
    batcher = Batcher(sender.send, max_in_flight=1, max_queue_size=size)
    first = await start_calls(batcher, 0)
    rounds = [await start_calls(batcher, 1, key=key) for _ in range(size) for key in busy]
    busy_calls = [call for calls in rounds for call in calls]
    rejected = [call for call in busy_calls if call.done()]
    assert {type(call.exception()) for call in rejected} == {QueueFull}
    free = size - (len(busy_calls) - len(rejected))
    assert free == size // (len(busy) + 1)
    others = [await start_calls(batcher, 2, key=f"other {number}") for number in range(free)]
    sender.released.set()
    assert await asyncio.gather(*first, *(call for calls in others for call in calls)) == [0, *[20] * free]


async def test_a_call_that_is_cancelled_while_its_batch_fails_is_not_sent_again() -> None:
    batches: list[list[int]] = []
    released = asyncio.Event()

    async def send(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        await released.wait()
        if len(items) > 1:
            calls[1].cancel()
            await asyncio.sleep(0)
            raise ValueError
        return [item * 10 for item in items]

    calls = await start_calls(Batcher(send, max_in_flight=1, split_on=(ValueError,)), 0, 1, 2, 3)
    released.set()
    first, cancelled, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, type(cancelled), others) == (0, asyncio.CancelledError, [20, 30])
    assert batches == [[0], [1, 2, 3], [2], [3]]


async def test_a_cancelled_call_does_not_affect_the_other_calls() -> None:
    """Calls are cancelled while they are in flight alone, queued, and in flight with others."""
    sender = Sender()
    batcher = Batcher(sender.send, max_in_flight=1)
    alone, queued, second, in_flight, last = await start_calls(batcher, 0, 1, 2, 3, 4)
    queued.cancel()
    alone.cancel()
    await settle()
    assert sender.batches == [[0], [2, 3, 4]]
    in_flight.cancel()
    sender.released.set()
    assert [await second, await last] == [20, 40]


async def test_a_call_that_times_out_in_the_queue_is_not_sent() -> None:
    sender = Sender()
    batcher = Batcher(sender.send, max_in_flight=1, queue_timeout=0.05)
    (in_flight,) = await start_calls(batcher, 1)
    with pytest.raises(QueueTimeout):
        await batcher("a", 2)
    sender.released.set()
    assert await in_flight == 10
    assert sender.batches == [[1]]


async def test_a_call_with_an_earlier_deadline_expires_in_time() -> None:
    loop = asyncio.get_running_loop()
    queue: FairQueue[int, int] = FairQueue()
    started = loop.time()
    queue.append(QueuedCall("retried", 1, loop.create_future(), started + 60, alone=True))
    queue.append(QueuedCall("a", 2, loop.create_future(), started + 60, alone=True))
    calls = [queue.add("a", 3, 0.2), queue.add("b", 4, 0.1)]
    for call in calls:
        with pytest.raises(QueueTimeout):
            await asyncio.wait_for(call.future, 10)
    assert loop.time() - started < 2
    assert [call.argument for call in queue.take(5)] == [1]
    assert [call.argument for call in queue.take(5)] == [2]


async def test_retried_calls_count_for_the_share_of_their_key() -> None:
    loop = asyncio.get_running_loop()
    queue: FairQueue[int, int] = FairQueue(max_size=3)
    queue.append(QueuedCall("a", 1, loop.create_future(), loop.time() + 60, alone=True))
    queue.add("a", 2, 60)
    with pytest.raises(QueueFull):
        queue.add("a", 3, 60)
    queue.add("b", 4, 60)
    for call in (*queue.take(1), *queue.take(2)):
        call.future.cancel()  # otherwise the queue fails the call after 60 seconds
