"""Calls that wait leave together: when, with whom, and what happens to each when something goes wrong."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timezone

import pytest

from alerts_service.db.batching import Batcher, FairSemaphore, QueueFull, QueueTimeout
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
    token = request_context.set(RequestContext(datetime.now(timezone.utc), "GET", "/", "somebody"))
    await asyncio.gather(*(group("a", ask) for ask in range(3)))
    request_context.reset(token)
    assert ids == ["somebody", None, None]


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


async def test_so_many_may_wait() -> None:
    """When there is no more room to wait a call is refused at once, and there is room again when a group leaves."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1, max_queue_size=2)
    calls = await calling(group, 0, 1, 2)
    with pytest.raises(QueueFull):
        await group("a", 3)
    line.open.set()
    await asyncio.gather(*calls)
    assert await group("a", 4) == 40


async def test_who_asks_a_lot_leaves_room() -> None:
    """Where there is no more room, the key that has most of it loses its last call to one that has less."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1, max_queue_size=5)
    calls = await calling(group, 0, 1, 2, 3, 4, 5) + await calling(group, 100, 101, key="b")
    for key in ("b", "a"):  # which have two and three now, so that one more would only change their places
        with pytest.raises(QueueFull):
            await group(key, 6)
    line.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [a if isinstance(a, int) else type(a) for a in answers] == [0, 10, 20, 30, QueueFull, QueueFull, 1000, 1010]


async def test_nobodys_calls_are_kept() -> None:
    """Calls without a key are many callers', so none of them is sent away for a key that asks little."""
    line = Line()
    group = Batcher(line.send, max_in_flight=1, max_queue_size=3)
    calls = await calling(group, 0, 1, 2, 3, key=None)
    with pytest.raises(QueueFull):
        await group("a", 4)
    line.open.set()
    assert await asyncio.gather(*calls) == [0, 10, 20, 30]


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


async def test_turns_are_taken() -> None:
    """As many blocks go on at once as may, and then the keys take turns; who gives up or waits too long is left out."""
    turns, order, over = FairSemaphore(max_in_flight=2, queue_timeout=0.05), list[str](), asyncio.Event()

    async def block(key: str) -> None:
        async with turns.slot(key):
            order.append(key)
            await over.wait()

    blocks = [asyncio.create_task(block(key)) for key in ("a", "a", "b", "b", "b", "c", "d")]
    await settle()
    blocks.pop().cancel()
    await settle()
    assert order == ["a", "a"]
    over.set()
    await asyncio.gather(*blocks)
    assert order == ["a", "a", "b", "c", "b", "b"]
    over.clear()
    stuck = [asyncio.create_task(block("e")) for _ in range(2)]
    await settle()
    with pytest.raises(QueueTimeout):
        await block("f")
    over.set()
    await asyncio.gather(*stuck, block("g"))
    assert order[6:] == ["e", "e", "g"]


async def test_a_block_that_raises_gives_its_turn_back() -> None:
    """Whatever ends a block, the next one goes on."""
    turns = FairSemaphore(max_in_flight=1, queue_timeout=0.05)
    for _ in range(3):
        with pytest.raises(ValueError, match="over"):
            async with turns.slot("a"):
                raise ValueError("over")
