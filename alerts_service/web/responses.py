"""An answer that is ready bytes at once.

Litestar's own response merges headers, cookies, encoders and background tasks that no answer of this service has, at
about half of what a request costs it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import litestar
import msgspec
from litestar.types import Receive, Scope, Send
from msgspec import Struct

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONTENT_TYPE = (b"content-type", b"application/json")

LINES_TYPE = (b"content-type", b"application/x-ndjson")

# A body above this size is sent in pieces, so that the server sends the next one when the client has read the last.
PIECE_BYTES = 64 * 1024

# A client that has not read a whole body by then is slow: bodies have up to about 5 MiB.
SLOW_SECONDS = 2.0

encode = msgspec.json.Encoder().encode
encode_lines = msgspec.json.Encoder().encode_lines


class SendBufferFull(Exception):
    """The response bodies that this process holds for its clients leave no room for another."""


class Held(Struct, eq=False):
    """A response body that is being sent: its bytes, the time on the loop's clock when that began, and the task."""

    size: int
    since: float
    task: "asyncio.Task[Any]"


class SendBuffer:
    """Counts the bytes of the response bodies above 64 KiB that this process holds until they are sent.

    When they reach the limit, the oldest bodies give way if their clients are slow.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._held: dict[Held, None] = {}  # in the order of time

    def has_room(self) -> bool:
        """Cut off slow clients where there is no room for another body, and return whether there is room."""
        while self._free <= 0 and self._held:
            oldest = next(iter(self._held))
            if asyncio.get_running_loop().time() - oldest.since < SLOW_SECONDS:
                break
            self._release(oldest)
            oldest.task.cancel()
        return self._free > 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a body while the block sends it, unless it is cut off. The last body may exceed the limit.

        Raises:
            SendBufferFull: there is no room left.
        """
        task = asyncio.current_task()
        if not self.has_room() or task is None:
            raise SendBufferFull
        body = Held(size, asyncio.get_running_loop().time(), task)
        self._held[body] = None
        self._free -= size
        try:
            yield
        except asyncio.CancelledError:
            if body in self._held:
                raise
            logger.warning("Response cut off: its client is slow, and the send buffer is full")
        finally:
            if body in self._held:
                self._release(body)

    def _release(self, body: Held) -> None:
        del self._held[body]
        self._free += body.size


class JSONResponse(litestar.Response[T]):
    """JSON by msgspec, with a status and headers of its own where they are given."""

    def __init__(
        self, content: T, *, status_code: int | None = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> None:
        self.content = content
        self.status_code = status_code
        self.headers = dict(headers or {})

    def to_asgi_response(self, *_: object, status_code: int | None = None, **__: object) -> Any:
        """Encode the content; the handler's status holds where this answer has none."""
        body = encode(self.content)
        headers = [CONTENT_TYPE, (b"content-length", b"%d" % len(body))]
        for name, value in self.headers.items():
            headers.append((name.lower().encode(), value.encode()))
        status = self.status_code or status_code or 200
        if len(body) > PIECE_BYTES:
            return _in_pieces(status, headers, body)

        # Another server than ours ignores `whole`.
        start: Any = {"type": "http.response.start", "status": status, "headers": headers, "whole": True}

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the signature of an ASGI application
            await send(start)
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return answer


def _in_pieces(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Any:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the signature of an ASGI application
        with scope["litestar_app"].state.send_buffer.holding(len(body)):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            for start in range(0, len(body), PIECE_BYTES):
                end = start + PIECE_BYTES
                await send({"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)})
                await asyncio.sleep(0)  # other requests go on, also where the client reads as fast as this writes

    return answer


class LinesResponse(litestar.Response[T]):
    """Lines of JSON, sent on as they are made; the answer begins with the first of them."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        self.lines = lines

    def to_asgi_response(self, *_: object, **__: object) -> Any:
        """Send what there is until there is no more."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the signature of an ASGI application
            start: Any = {"type": "http.response.start", "status": 200, "headers": [LINES_TYPE]}
            started = False
            async with aclosing(self.lines):
                async for lines in self.lines:
                    if not started:
                        await send(start)
                        started = True
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            if not started:
                await send(start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return answer
