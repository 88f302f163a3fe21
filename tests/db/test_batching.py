"""Calls that wait leave together: when, with whom, and what happens to each when something goes wrong."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timezone

import pytest

from alerts_service.db.batching import Batcher
from alerts_service.db.fair_queue import FairQueue, QueuedCall, QueueFull, QueueTimeout
from alerts_service.logging_config import RequestContext, RequestIdFilter, request_context

pytestmark = pytest.mark.anyio


class Line:
    """Something to send groups to, one that answers only when told to."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()

    async def send(self, asks: Sequence[int]) -> list[int]:
        self.groups.append(list(asks))
        await self.open.wait()
        if 13 in asks:
            raise ValueError(str(asks))
        return [ask * 10 for ask in asks]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def calling(group: Batcher[int, int], *asks: int, key: str | None = "a") -> "list[asyncio.Task[int]]":
    """Let as many callers call as there are asks, in their order, and wait no longer than until all of them wait."""
    callers = [asyncio.create_task(group(key, ask)) for ask in asks]
    await settle()
    return callers


async def test_a_lone_call_leaves_at_once() -> None:
    """A call that finds a free flight waits for no company."""
    line = Line()
    line.open.set()
    assert await Batcher(line.send)("a", 1) == 10
    assert line.groups == [[1]]


async def test_a_group_is_nobodys_request() -> None:
    """What is logged while those who waited are on their way carries no request's id, and a lone caller's its own."""
    ids: list[str | None] = []

    async def send(asks: Sequence[int]) -> Sequence[int]:
        record = logging.makeLogRecord({})
        RequestIdFilter().filter(record)
        ids.append(getattr(record, "request_id", None))
        await asyncio.sleep(0)
        return asks

    group = Batcher(send, max_in_flight=1, max_batch_size=1)
    token = request_context.set(RequestContext(datetime.now(timezone.utc), "GET", "/", "the-id"))
    await asyncio.gather(*(group("a", ask) for ask in range(3)))
    request_context.reset(token)
    assert ids == ["the-id", None, None]


async def test_calls_that_wait_leave_together() -> None:
    """A call that has left takes nobody in; while two are on their way the others wait, and then leave together."""
    line = Line()
    calls = await calling(Batcher(line.send), 0, 1, 2, 3, 4, 5)
    assert line.groups == [[0], [1]]
    line.open.set()
    assert await asyncio.gather(*calls) == [0, 10, 20, 30, 40, 50]
    assert line.groups == [[0], [1], [2, 3, 4, 5]]


async def test_a_group_has_so_many_seats() -> None:
    """A group takes no more calls than it has seats; the rest follow."""
    line = Line()
    calls = await calling(Batcher(line.send, max_batch_size=3), *range(9))
    line.open.set()
    await asyncio.gather(*calls)
    assert [len(asks) for asks in line.groups] == [1, 1, 3, 3, 1]


async def test_keys_take_turns() -> None:
    """A key that asks a lot does not hold up one that asks a little."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1, max_batch_size=2)
    calls = await calling(group, *range(6)) + await calling(group, 100, key="b")
    line.open.set()
    await asyncio.gather(*calls)
    assert line.groups[:2] == [[0], [1, 100]]


async def test_a_bad_call_fails_alone() -> None:
    """Where nothing was done, each call of a failed group is sent by itself, and only the bad one fails."""
    line = Line()
    calls = await calling(Batcher(line.send, max_in_flight=1, split_on=(ValueError,)), 0, 1, 13, 2)
    line.open.set()
    _, first, bad, last = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, last) == (10, 20)
    assert isinstance(bad, ValueError)
    assert line.groups == [[0], [1, 13, 2], [1], [13], [2]]


async def test_a_bad_call_costs_few_statements() -> None:
    """A failed group is cut into eight parts at a time, so that one bad call among 64 costs 17 sendings and not 65."""
    line = Line()
    calls = await calling(
        Batcher(line.send, max_in_flight=1, split_on=(ValueError,)), 0, *range(100, 140), 13, *range(140, 163)
    )
    line.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, int)] == [answers[41]]
    assert [len(asks) for asks in line.groups] == [1, 64, *[8] * 6, *[1] * 8, *[8] * 2]


async def test_after_a_timeout_each_call_is_sent_once_more_by_itself() -> None:
    """A slow call fails alone, after its second timeout, and whoever waits behind it is not sent with it again."""
    line = Line()
    calls = await calling(Batcher(line.send, max_in_flight=1, max_batch_size=3, retry_on=(ValueError,)), 0, 1, 13, 2, 3)
    line.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer if isinstance(answer, int) else type(answer) for answer in answers] == [0, 10, ValueError, 20, 30]
    assert line.groups == [[0], [1, 13, 2], [3], [1], [13], [2]]


async def test_what_may_have_been_done_is_not_done_again() -> None:
    """Where it is not known what was done, nothing is sent again: the whole group fails."""
    line = Line()
    calls = await calling(Batcher(line.send, max_in_flight=1), 0, 1, 13)
    line.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, ValueError, ValueError]
    assert line.groups == [[0], [1, 13]]


async def test_a_full_queue_rejects_a_call_at_once() -> None:
    """A single key may occupy half of the queue; a batch that is sent makes room again."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1, max_queue_size=4)
    calls = await calling(group, 0, 1, 2)
    with pytest.raises(QueueFull):
        await group("a", 3)
    line.open.set()
    await asyncio.gather(*calls)
    assert await group("a", 4) == 40


@pytest.mark.parametrize("busy", [["a"], ["a", "b"], ["a", None, "b", "c"]])
async def test_busy_keys_leave_room_for_the_others(busy: list[str | None]) -> None:
    """However many calls n busy keys make, one place in n + 1 is free for the calls of others, which all succeed."""
    size, line = 60, Line()
    group = Batcher(line.send, max_in_flight=1, max_queue_size=size)
    first = await calling(group, 0)
    rounds = [await calling(group, 1, key=key) for _ in range(size) for key in busy]
    flood = [call for calls in rounds for call in calls]
    rejected = [call for call in flood if call.done()]
    assert {type(call.exception()) for call in rejected} == {QueueFull}
    free = size - (len(flood) - len(rejected))
    assert free == size // (len(busy) + 1)
    others = [await calling(group, 2, key=f"other {number}") for number in range(free)]
    line.open.set()
    assert await asyncio.gather(*first, *(call for calls in others for call in calls)) == [0, *[20] * free]


async def test_nobody_is_asked_for_again_who_has_gone() -> None:
    """A caller that gave up while its group failed is not among those that are sent again."""
    groups: list[list[int]] = []
    called = asyncio.Event()

    async def send(asks: Sequence[int]) -> list[int]:
        groups.append(list(asks))
        await called.wait()
        if len(asks) > 1:
            calls[1].cancel()
            await asyncio.sleep(0)
            raise ValueError
        return [ask * 10 for ask in asks]

    calls = await calling(Batcher(send, max_in_flight=1, split_on=(ValueError,)), 0, 1, 2, 3)
    called.set()
    first, gone, *rest = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, type(gone), rest) == (0, asyncio.CancelledError, [20, 30])
    assert groups == [[0], [1, 2, 3], [2], [3]]


async def test_whoever_gives_up_disturbs_nobody() -> None:
    """A caller that gives up, before its group leaves or after, neither ends nor delays the others' calls."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1)
    flying, early, stays, late, last = await calling(group, 0, 1, 2, 3, 4)
    early.cancel()
    flying.cancel()
    await settle()
    assert line.groups == [[0], [2, 3, 4]]
    late.cancel()
    line.open.set()
    assert [await stays, await last] == [20, 40]


async def test_nobody_waits_for_ever() -> None:
    """A call that finds no seat in time is told so, was not sent, and leaves the others alone."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1, queue_timeout=0.05)
    (flying,) = await calling(group, 1)
    with pytest.raises(QueueTimeout):
        await group("a", 2)
    line.open.set()
    assert await flying == 10
    assert line.groups == [[1]]


async def test_a_call_with_an_earlier_deadline_expires_in_time() -> None:
    loop = asyncio.get_running_loop()
    queue: FairQueue[int, int] = FairQueue()
    started_at = loop.time()
    queue.append(QueuedCall("retried", 1, loop.create_future(), started_at + 60, alone=True))
    queue.append(QueuedCall("a", 2, loop.create_future(), started_at + 60, alone=True))
    calls = [queue.add("a", 3, 0.2), queue.add("b", 4, 0.1)]
    for call in calls:
        with pytest.raises(QueueTimeout):
            await asyncio.wait_for(call.future, 10)
    assert loop.time() - started_at < 2
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
