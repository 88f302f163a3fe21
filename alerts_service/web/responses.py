"""JSON responses that are encoded as a whole, and responses of NDJSON lines.

Litestar's own response class also merges cookies, encoders and background tasks, which no response of this service has.
Litestar's class takes about half of the time that Litestar spends on a request.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import litestar
import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")

JSON_CONTENT_TYPE = (b"content-type", b"application/json")
NDJSON_CONTENT_TYPE = (b"content-type", b"application/x-ndjson")

# A larger body is sent in pieces. The server waits before a piece while its write buffer for the client is full.
PIECE_BYTES = 64 * 1024

encode = msgspec.json.Encoder().encode
encode_lines = msgspec.json.Encoder().encode_lines


class JSONResponse(litestar.Response[T]):
    """A JSON response, encoded by msgspec."""

    def __init__(
        self, content: T, *, status_code: int | None = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> None:
        self.content = content
        self.status_code = status_code
        self.headers = dict(headers or {})

    def to_asgi_response(self, *_: object, status_code: int | None = None, **__: object) -> Any:
        """Encode the content. `status_code` is the status of the handler: the default for this response."""
        body = encode(self.content)
        headers = [JSON_CONTENT_TYPE, (b"content-length", b"%d" % len(body))]
        for name, value in self.headers.items():
            headers.append((name.lower().encode(), value.encode()))
        status = self.status_code or status_code or 200
        if len(body) > PIECE_BYTES:
            return _send_in_pieces(status, headers, body)

        # `whole`: the next message is the complete body, so `alerts_service.server` writes head and body at once. Other
        # servers ignore the key.
        start: Any = {"type": "http.response.start", "status": status, "headers": headers, "whole": True}

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - Litestar passes these by name
            await send(start)
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return respond


def _send_in_pieces(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> ASGIApp:
    async def respond(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - Litestar passes these by name
        with scope["litestar_app"].state.send_buffer.holding(len(body)):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            for start in range(0, len(body), PIECE_BYTES):
                end = start + PIECE_BYTES
                await send({"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)})
                await asyncio.sleep(0)  # lets other requests run, even if the client reads without delay

    return respond


class NdjsonResponse(litestar.Response[T]):
    """A response of JSON lines, which are sent as they are produced.

    The status is sent with the first line, so an earlier error has a status of its own.
    """

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        self.lines = lines

    def to_asgi_response(self, *_: object, **__: object) -> Any:
        """Return an ASGI application that sends the lines."""

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - Litestar passes these by name
            start: Any = {"type": "http.response.start", "status": 200, "headers": [NDJSON_CONTENT_TYPE]}
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

        return respond
