"""A request and its response on a connection of uvicorn."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from alerts_service.errors import ApiError, ErrorResponse, MalformedRequest
from alerts_service.web.responses import encode

MALFORMED = "malformed HTTP request; HTTP/1.0 and HTTP/1.1 are accepted"

ERROR_HEAD = (
    b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
    b"x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
)


class ResponseCycle(RequestResponseCycle):
    """Writes a whole response at once, and a response to HTTP/1.0 without chunks.

    uvicorn writes head and body separately, and matches each name and value of a header with a regular expression. This
    takes 6 of the 70 µs that the process spends on a small response.
    """

    lingering = False  # whether the connection is closed after this response, while the client may still be sending
    _malformed = False
    _start_message: Any = None

    def reject_body(self) -> None:
        """Let the application respond that the body is malformed."""
        self._malformed = True
        self.keep_alive = False
        self.message_event.set()

    async def receive(self) -> Any:
        """Return the next message to the application.

        Raises:
            MalformedRequest: the rest of the body is not HTTP.
        """
        if not self._malformed:
            message = await super().receive()
        if self._malformed:
            raise MalformedRequest(MALFORMED)
        return message

    async def send(self, message: Any) -> None:
        """Send a message of the application.

        A start message with `whole` is written together with the body that follows. Its headers are not checked, as
        their values contain no line break.
        """
        if message.get("whole"):
            self._start_message = message
            return
        start, self._start_message = self._start_message, None
        if start is not None:
            if self._can_write_at_once(message):
                self._write(start, message["body"])
                return
            await self._send(start)
        await self._send(message)

    def _can_write_at_once(self, body: Any) -> bool:
        return (
            body["type"] == "http.response.body"
            and self.keep_alive
            and not self.more_body
            and not self.flow.write_paused
            and not self.disconnected
            and not self.response_started
            and self.scope["method"] != "HEAD"
        )

    def _write(self, start: Any, body: bytes) -> None:
        content = [STATUS_LINE[start["status"]]]
        for name, value in self.default_headers:
            content += (name, b": ", value, b"\r\n")
        for name, value in start["headers"]:
            content += (name, b": ", value, b"\r\n")
        content += (b"\r\n", body)
        self.transport.write(b"".join(content))
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        self.message_event.set()
        self.on_response()

    async def _send(self, message: Any) -> None:
        """Send a message as uvicorn does, with two differences.

        A response to HTTP/1.0 is not chunked (RFC 9112, section 6.1). uvicorn closes the connection after such a
        response, but ignores the version when it chooses the encoding. The second difference: the connection is not
        closed while the client is still sending, as this could discard the response (section 9.6).
        """
        if self.scope["http_version"] == "1.0":
            if message["type"] == "http.response.start":
                self.chunked_encoding = False
            else:
                # uvicorn raises an error if the body has a different length.
                self.expected_content_length = len(message.get("body", b""))
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and self.more_body and not self.keep_alive:
            self.lingering = self.keep_alive = True  # uvicorn closes the connection if keep_alive is False
        await super().send(message)


def encode_error(error: ApiError, request_id: str) -> bytes:
    """Return the response to a request that does not reach the application."""
    body = encode(ErrorResponse(error.error, error.detail))
    return STATUS_LINE[error.status] + ERROR_HEAD % (len(body), request_id.encode()) + body
