"""An answer that is ready bytes at once.

Litestar's own response merges headers, cookies, encoders and background tasks that no answer of this service has, at
about half of what a request costs it.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import litestar
import msgspec
from litestar.types import Receive, Scope, Send

T = TypeVar("T")

encode = msgspec.json.Encoder().encode


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
        return _Ready(self.status_code or status_code or 200, self.headers, encode(self.content))


class _Ready:
    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ]
        self.body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI passes all three, also by name
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})
