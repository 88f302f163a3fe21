"""Requests to the application without a server, also those that no HTTP client would send."""

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from alerts_service.web.middleware import AlertsApp


class Input(NamedTuple):
    """A request. If the body is None, the client disconnects before it sends one."""

    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes | None


async def answer(
    app: AlertsApp, request: Input, on_receive: Callable[[Any], object] = id, root_path: str = ""
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Call the application as a server does, and return status, headers and body.

    `on_receive` is called whenever the application reads the body.
    """
    sent: list[Any] = []

    async def receive() -> Any:
        on_receive(request)
        if request.body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": root_path + unquote(request.path.decode("ascii")),
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": root_path,
        "headers": request.headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3101),
        "state": {},
    }
    await app(scope, receive, send)
    start, *parts = sent
    return start["status"], dict(start["headers"]), b"".join(part["body"] for part in parts)
