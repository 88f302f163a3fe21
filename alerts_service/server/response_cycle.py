"""How a response is written to its connection."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


class ResponseCycle(RequestResponseCycle):
    """Writes a whole response at once, and a response to HTTP/1.0 without chunks.

    uvicorn writes head and body apart, and matches each name and value of a header with a regular expression: 6 µs of
    the 70 that the process spends on a small response.
    """

    _start: Any = None

    async def send(self, message: Any) -> None:
        """Take a message of the application. A start that says `whole` is written with the body message behind it.

        The headers of such a start are not checked: their values hold no line break.
        """
        if message.get("whole"):
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if self._can_write(message):
                self._write(start, message["body"])
                return
            await self._send(start)
        await self._send(message)

    def _can_write(self, body: Any) -> bool:
        return (
            body["type"] == "http.response.body"
            and self.keep_alive
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
        """Send as uvicorn does, but end a response to HTTP/1.0 by closing the connection (RFC 9112, section 6.1).

        uvicorn closes the connection after each such response, but chooses the encoding without the version.
        """
        if self.scope["http_version"] == "1.0":
            if message["type"] == "http.response.start":
                self.chunked_encoding = False
            else:
                self.expected_content_length = len(message.get("body", b""))  # uvicorn compares the two
        await super().send(message)
