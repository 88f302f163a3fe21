"""Calls that wait leave together, as one.

Most of what a small statement costs is the conversation around it, on both sides. So while a few groups are on their
way the calls that come meanwhile wait, and the next group takes them all. Nobody waits for company: a call that finds
a free flight leaves at once. A group that has left takes nobody in, so whoever asks after a change sees it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Generic, TypeVar

from msgspec import Struct

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Full(Exception):
    """As many calls wait already as may."""


class Late(Exception):
    """No group had a seat in time, or none that came through; nothing was done."""


class Call(Struct, Generic[Ask, Answer]):
    """One that waits, until the deadline at the latest, a time of the loop's clock."""

    ask: Ask
    future: "asyncio.Future[Answer]"
    deadline: float


class Group(Generic[Ask, Answer]):
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
        flights: int = 2,
        seats: int = 64,
        waiting: int = 4000,
        patience: float = 2.0,
        alone: tuple[type[Exception], ...] = (),
    ) -> None:
        """When `send` raises one of `alone`, nothing was done, and each call of the group is sent again by itself."""
        self._send = send
        self._free, self._seats, self._room, self._alone = flights, seats, waiting, alone
        self._patience = patience
        self._queues: OrderedDict[Hashable, deque[Call[Ask, Answer]]] = OrderedDict()
        self._most = 0  # no key has more calls waiting
        self._clock: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: Hashable, ask: Ask) -> Answer:
        """Wait for the answer to `ask`.

        Raises:
            Full: when there is no more room to wait.
            Late: when it has waited for so long.
        """
        if self._free and not self._queues:
            self._free -= 1
            try:
                (answer,) = await self._send((ask,))
            finally:
                self._land()
            return answer
        if not self._room and not self._make_room(key):
            raise Full
        self._room -= 1
        loop = asyncio.get_running_loop()
        call: Call[Ask, Answer] = Call(ask, loop.create_future(), loop.time() + self._patience)
        queue = self._queues.setdefault(key, deque())
        queue.append(call)
        self._most = max(self._most, len(queue))
        if self._clock is None:
            self._clock = loop.call_at(call.deadline, self._expire)
        return await call.future

    def _make_room(self, key: Hashable) -> bool:
        """Refuse the last call of the key that has most of them waiting, unless it is this one or nobody's."""
        enough = len(self._queues.get(key, ())) + 1
        if self._most <= enough:  # who is refused when there are many must cost little
            return False
        longest = max(self._queues, key=lambda each: len(self._queues[each]))
        self._most = len(self._queues[longest])
        if longest is None or self._most <= enough:
            return False
        _fail([self._queues[longest].pop()], Full())
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
            key, queue = self._queues.popitem(last=False)
            call = queue.popleft()
            if queue:
                self._queues[key] = queue
            self._room += 1
            if not call.future.done():
                group.append(call)
        return group

    def _expire(self) -> None:
        """Tell those whose time is over, and look again when the next one's is."""
        loop = asyncio.get_running_loop()
        for key, queue in list(self._queues.items()):
            # A queue is in the order of its deadlines.
            while queue and (queue[0].future.done() or queue[0].deadline <= loop.time()):
                _fail([queue.popleft()], Late())
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
        except self._alone as error:
            if len(group) == 1:
                _fail(group, error)
                return
            for call in group:
                if call.future.done():
                    continue
                if call.deadline < asyncio.get_running_loop().time():
                    _fail([call], Late())
                else:
                    await self._answer([call])
        except BaseException as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            _fail(group, error)
        else:
            for call, answer in zip(group, answers, strict=True):
                if not call.future.done():
                    call.future.set_result(answer)


class Turn(Struct):
    """What takes longer than a call, from its begin until it is over."""

    begun: "asyncio.Future[None]"
    over: "asyncio.Future[None]"


class Turns:
    """Lets `flights` blocks at a time go on, while others wait as the calls of a Group do, and as fairly."""

    def __init__(self, *, flights: int, patience: float) -> None:
        self._group: Group[Turn, None] = Group(_hold, flights=flights, seats=1, patience=patience)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait until the block may go on.

        Raises:
            Full, Late: as a Group does.
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


def _fail(group: "list[Call[Ask, Answer]]", error: BaseException) -> None:
    for call in group:
        if not call.future.done():
            call.future.set_exception(error)
