"""Calls that wait leave together, as one.

Most of what a small statement costs is the conversation around it, on both sides. So while a few groups are on their
way the calls that come meanwhile wait, and the next group takes them all. Nobody waits for company: a call that finds
a free flight leaves at once. A group that has left takes nobody in, so whoever asks after a change sees it.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Generic, TypeVar

from msgspec import Struct, structs

# A failed group is cut into so many parts: one bad call among 64 costs 1 + 8 + 8 statements.
SPLIT_INTO = 8
RETRY_PATIENCE = 5

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class QueueFull(Exception):
    """As many calls wait already as may."""


class QueueTimeout(Exception):
    """No group had a seat in time, or none that came through; nothing was done."""


class Call(Struct, Generic[Ask, Answer]):
    """One that waits, until the deadline at the latest, a time of the loop's clock.

    One that is `retried` is sent by itself: the batch that it was sent with has timed out.
    """

    key: Hashable
    ask: Ask
    future: "asyncio.Future[Answer]"
    deadline: float
    retried: bool = False


class Batcher(Generic[Ask, Answer]):
    """Collects calls and hands them to `send`, which answers them in their order.

    At most `flights` groups are on their way at a time, of at most `seats` calls each, and at most `waiting` calls
    wait, each for at most `patience` seconds. Among those who wait the keys take turns, and where there is no more room
    the key that has most of it loses a call: one that asks a lot does not hold up one that asks a little. Those that
    come without a key, as None, share one turn and are not sent away.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer]]],
        *,
        max_in_flight: int = 2,
        max_batch_size: int = 64,
        max_queue_size: int = 4000,
        queue_timeout: float = 2.0,
        split_on: tuple[type[Exception], ...] = (),
        retry_on: tuple[type[Exception], ...] = (),
    ) -> None:
        """Say what happens to a group of several calls when `send` raises.

        After one of `alone` nothing was done: the group is cut into parts, down to single calls, so that only the calls
        that cause the error fail. After one of `retry`, such as a timeout of a read, each call is queued again once, to
        be sent by itself. After any other exception all calls fail.
        """
        self._send = send
        self._free, self._seats, self._room, self._alone, self._retry = (
            max_in_flight,
            max_batch_size,
            max_queue_size,
            split_on,
            retry_on,
        )
        self._queue_timeout = queue_timeout
        self._queues: OrderedDict[Hashable, deque[Call[Ask, Answer]]] = OrderedDict()
        self._most = 0  # no key has more calls waiting
        self._clock: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: Hashable, ask: Ask) -> Answer:
        """Wait for the answer to `ask`.

        Raises:
            QueueFull: when there is no more room to wait.
            QueueTimeout: when it has waited for so long.
        """
        if self._free and not self._queues:
            self._free -= 1
            try:
                (answer,) = await self._send((ask,))
            finally:
                self._land()
            return answer
        if self._room <= 0 and not self._make_room(key):
            raise QueueFull
        loop = asyncio.get_running_loop()
        call: Call[Ask, Answer] = Call(key, ask, loop.create_future(), loop.time() + self._queue_timeout)
        self._queue(call)
        return await call.future

    def _queue(self, call: Call[Ask, Answer]) -> None:
        self._room -= 1
        queue = self._queues.setdefault(call.key, deque())
        queue.append(call)
        self._most = max(self._most, len(queue))
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_at(call.deadline, self._expire)

    def _make_room(self, key: Hashable) -> bool:
        """Refuse the last call of the key that has most of them waiting, unless it is this one or nobody's."""
        enough = len(self._queues.get(key, ())) + 1
        if self._most <= enough:  # who is refused when there are many must cost little
            return False
        longest = max(self._queues, key=lambda each: len(self._queues[each]))
        self._most = len(self._queues[longest])
        if longest is None or self._most <= enough:
            return False
        _fail([self._queues[longest].pop()], QueueFull())
        self._room += 1
        return True

    def _land(self) -> None:
        """Give a flight back, and let those who wait leave with it."""
        self._free += 1
        while self._free and self._queues:
            if group := self._board():
                self._free -= 1
                # In a context of its own: a group is nobody's request in particular.
                task = Context().run(asyncio.create_task, self._fly(group))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _board(self) -> "list[Call[Ask, Answer]]":
        group: list[Call[Ask, Answer]] = []
        while self._queues and len(group) < self._seats:
            key, queue = next(iter(self._queues.items()))
            if group and queue[0].retried:
                break
            call = queue.popleft()
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            self._room += 1
            if not call.future.done():
                group.append(call)
                if call.retried:
                    break
        return group

    def _expire(self) -> None:
        """Tell those whose time is over, and look again when the next one's is."""
        loop = asyncio.get_running_loop()
        for key, queue in list(self._queues.items()):
            # A queue is in the order of its deadlines.
            while queue and (queue[0].future.done() or queue[0].deadline <= loop.time()):
                _fail([queue.popleft()], QueueTimeout())
                self._room += 1
            if not queue:
                del self._queues[key]
        deadlines = [queue[0].deadline for queue in self._queues.values()]
        self._clock = loop.call_at(min(deadlines), self._expire) if deadlines else None

    async def _fly(self, group: "list[Call[Ask, Answer]]") -> None:
        try:
            await self._answer(group)
        finally:
            self._land()

    async def _answer(self, group: "list[Call[Ask, Answer]]") -> None:
        try:
            answers = await self._send([call.ask for call in group])
        except BaseException as error:  # noqa: BLE001 - it is passed on to every call of the group
            if len(group) > 1 and isinstance(error, self._alone):
                await self._answer_in_parts(group)
            elif len(group) > 1 and isinstance(error, self._retry):
                self._queue_again(group)
            else:
                _fail(group, error)
        else:
            for call, answer in zip(group, answers, strict=True):
                if not call.future.done():
                    call.future.set_result(answer)

    async def _answer_in_parts(self, group: "list[Call[Ask, Answer]]") -> None:
        size = math.ceil(len(group) / SPLIT_INTO)
        for start in range(0, len(group), size):
            if part := _in_time(group[start : start + size]):
                await self._answer(part)

    def _queue_again(self, group: "list[Call[Ask, Answer]]") -> None:
        # Longer than the first time: a slow call before them may take its whole timeout again.
        deadline = asyncio.get_running_loop().time() + RETRY_PATIENCE * self._queue_timeout
        for call in group:
            if not call.future.done():
                self._queue(structs.replace(call, deadline=deadline, retried=True))


class Turn(Struct):
    """What takes longer than a call, from its begin until it is over."""

    begun: "asyncio.Future[None]"
    over: "asyncio.Future[None]"


class FairSemaphore:
    """Lets `flights` blocks at a time go on, while others wait as the calls of a Group do, and as fairly."""

    def __init__(self, *, max_in_flight: int, queue_timeout: float) -> None:
        self._group: Batcher[Turn, None] = Batcher(
            _hold, max_in_flight=max_in_flight, max_batch_size=1, queue_timeout=queue_timeout
        )

    @asynccontextmanager
    async def slot(self, key: Hashable) -> AsyncIterator[None]:
        """Wait until the block may go on.

        Raises:
            QueueFull, QueueTimeout: as a Group does.
        """
        loop = asyncio.get_running_loop()
        turn = Turn(loop.create_future(), loop.create_future())
        holding = asyncio.create_task(self._group(key, turn))
        try:
            await asyncio.wait({holding, turn.begun}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.begun.done():
                await holding  # which tells why
            yield
        finally:
            turn.over.set_result(None)
            if not turn.begun.done():
                holding.cancel()


async def _hold(turns: Sequence[Turn]) -> list[None]:
    for turn in turns:
        turn.begun.set_result(None)
        await turn.over
    return [None] * len(turns)


def _in_time(group: "list[Call[Ask, Answer]]") -> "list[Call[Ask, Answer]]":
    """Fail the calls whose deadline has passed, and return those that are still pending."""
    now = asyncio.get_running_loop().time()
    _fail([call for call in group if call.deadline < now], QueueTimeout())
    return [call for call in group if not call.future.done()]


def _fail(group: "list[Call[Ask, Answer]]", error: BaseException) -> None:
    for call in group:
        if not call.future.done():
            call.future.set_exception(error)
