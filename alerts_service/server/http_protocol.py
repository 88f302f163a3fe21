"""Uvicorn's HTTP protocol, with an end to every request: in time, in size, and with one shape of error.

Uvicorn waits for ever for the rest of a request and for the reader of an answer; httptools takes a head of any length,
and leaves out the body of a request that offers to go over to another protocol, which is not taken up here.
"""

import asyncio
import logging
import re
import socket
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from alerts_service.errors import ErrorResponse
from alerts_service.server.response_cycle import ResponseCycle
from alerts_service.web.middleware import access_log, request_line
from alerts_service.web.responses import encode

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024  # as it is sent, in chunks; the application refuses one of 1 MiB
MAX_WAITING = 100  # requests of a connection behind the one that is being answered
LAST_REQUEST_SECONDS = 0.5  # for a request that was on its way when the service was told to stop
LINGER_SECONDS = 1.0  # for a caller that still writes to come to read the answer
MAX_DROPPED = 1024 * 1024  # bytes that it may write meanwhile
MIN_READ_BYTES = 64 * 1024  # that a client must read in each request timeout while a response is unread

# How many bytes the kernel takes beyond those that the network has room for. Without the limit it takes some MiB, and
# more only when a third of them are sent: then a slow client cannot be told from one that reads nothing.
MAX_UNSENT_BYTES = 32 * 1024
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it

UPGRADE = re.compile(rb"\bupgrade\b", re.IGNORECASE)

HEAD = (
    b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
    b"x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
)
WORDS = {
    HTTPStatus.BAD_REQUEST: "Bad request",
    HTTPStatus.REQUEST_TIMEOUT: "Request timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Body too large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Head too large",
}


class TooMuch(Exception):
    """Stops the parser: what it reads on is not to become a request."""


class Trailers(list[tuple[bytes, bytes]]):
    """Takes the headers that come behind a body, and keeps none: the request is being answered already."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Drop a header."""


TRAILERS = Trailers()

httptools_impl.RequestResponseCycle = ResponseCycle  # type: ignore[misc] # uvicorn has no option for it


class Protocol(HttpToolsProtocol):
    """A connection. A request has `request_timeout` seconds from first byte to last, a stream from line to line."""

    def __init__(self, *args: Any, request_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_timeout = request_timeout
        self._stage: Literal["idle", "blank", "head", "body"] = "idle"
        self._since = 0.0  # when the request that is coming in began
        self._came = 0  # bytes that came last
        self._chunk = 0  # the most that came at once, of what may belong to the request that is coming in
        self._offer: bytes | None = None  # a head that offers another protocol, without that
        self._size = 0  # bytes of its head, then of its body; of a head behind another request, without the first chunk
        self._ending = False  # the service stops
        self._deaf = False  # what else comes is dropped
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it to Transport as well
        """Wait for the first byte as long as for the last."""
        super().connection_made(transport)
        if TCP_NOTSENT_LOWAT is not None and (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        self._begin("blank")
        self._watch(self._request_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        for timer in (self._timer, self._reader):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Check after a while whether the client reads fast enough."""
        super().pause_writing()
        self._expect_a_reader()

    def resume_writing(self) -> None:
        """Let the client take its time until writing pauses again, unless this is the end of the connection."""
        if self._reader is not None and not self.transport.is_closing():
            self._reader.cancel()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and look whether the request that is not whole then is still within its limits."""
        if self._deaf:
            self._drop(data)
            return
        if self._stage == "idle":
            self._begin("blank")
        self._came = len(data)
        self._chunk = max(self._chunk, self._came)
        self._size += self._came
        self._parse(data)
        if self._stage == "idle":
            return
        if self._timer is None:
            self._watch(self._request_timeout)
        if self._stage == "body":
            if "stream" in self.cycle.scope:
                self._size = 0  # what is read line by line has no end
            elif self._size > MAX_BODY_BYTES:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a body may have 1 MiB")
        elif self._size > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin the clock, also for a request that came together with the one before."""
        if self._stage == "idle":
            self._begin("head")
        self._stage = "head"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Let a head of bearable size become a request, while not too many wait.

        Raises:
            TooMuch: this one does not.
        """
        if self._size + self._chunk > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._refuse_head()
            raise TooMuch
        if len(self.pipeline) >= MAX_WAITING:
            self._end_behind_the_last()
            raise TooMuch
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(HTTPStatus.BAD_REQUEST, "this is no proxy")
                raise TooMuch
            self._offer = self._without_offer()
            return
        super().on_headers_complete()
        self._stage, self._size = "body", 0
        if self._ending:
            self.cycle.keep_alive = False
        self.headers = TRAILERS

    def on_response_complete(self) -> None:
        """Go on with the next request, or see to it that the last answer does not lie unread for ever."""
        super().on_response_complete()
        self._end_unread()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nobody uses."""
        super().timeout_keep_alive_handler()
        self._end_unread()

    def shutdown(self) -> None:
        """Close after the request that there is, or that comes soon; its answer says that it was the last."""
        if self._ending or self._answering():
            super().shutdown()
            self._end_unread()
        else:
            self.loop.call_later(LAST_REQUEST_SECONDS, self.shutdown)
        self._ending = True

    def on_message_complete(self) -> None:
        """Stop the clock."""
        if self._offer is not None:
            return
        self._stage, self._size, self._chunk = "idle", 0, self._came
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; what stopped the parser ourselves is answered already."""
        if not self._deaf:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            head, self._offer = self._offer or b"", None
            self.parser = HttpRequestParser(self)
            self._parse(head + data[upgrade.args[0] :])
        except HttpParserError:
            self.send_400_response("what came is no HTTP request")

    def _without_offer(self) -> bytes:
        """Write the head of a request that offers another protocol as the plain one that it is as well."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name != b"upgrade":
                lines.append(name + b": " + (UPGRADE.sub(b"", value) if name == b"connection" else value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _begin(self, stage: Literal["blank", "head"]) -> None:
        self._stage, self._since, self._size = stage, self.loop.time(), 0

    def _watch(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Refuse the request that is coming in if its time is over, but not for what it waited for us.

        So no request has to start or stop a timer: it is looked at when the timer of its connection comes round.
        """
        self._timer = None
        if self.transport.is_closing() or self._stage == "idle":
            return
        left = self._turn() + self._request_timeout - self.loop.time()
        if left > 0:
            self._watch(min(left, self._request_timeout))
        elif self._waits_for_us():
            self._since = self.loop.time()
            self._watch(self._request_timeout)
        elif self._stage == "blank":
            self.transport.close()
        else:
            detail = f"a request may take {self._request_timeout:g} s to come in"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)

    def _turn(self) -> float:
        """Since when it is the caller's turn: with the whole request, or with the next line of a stream."""
        scope = cast("dict[str, Any]", self.cycle.scope) if self._stage == "body" else {}
        turn: float = scope.get("stream", self._since)
        return turn

    def _head_size(self) -> int:
        """Count a head as it is usually written, `name: value` on a line each."""
        lines = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n\r\n")
        return lines + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)

    def _drop(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_DROPPED:
            self.flow.pause_reading()

    def _expect_a_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        unread = self.transport.get_write_buffer_size()
        self._reader = self.loop.call_later(self._request_timeout, self._look_for_a_reader, unread)

    def _look_for_a_reader(self, unread: int) -> None:
        """Close the connection if the client has read less than the minimum of what was unread."""
        if unread - self.transport.get_write_buffer_size() >= MIN_READ_BYTES:
            self._expect_a_reader()
        else:
            logger.warning("Connection closed: a client reads its response too slowly")
            self.transport.abort()

    def _end_unread(self) -> None:
        """Expect the client to read the last response of the connection, too."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._expect_a_reader()

    def _waits_for_us(self) -> bool:
        if self.pipeline or (self.flow.read_paused and not self._deaf):
            return True
        return self._stage != "body" and self._answering()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse_head(self) -> None:
        detail = "the request line and the headers may have 64 KiB"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer the request that is coming in, in place of the application, and close the connection.

        Requests before it are answered first; then it goes without an answer of its own.
        """
        if self._stage == "body" and self.pipeline:
            self._deaf = True  # its own time will be over when its turn comes
        elif self._stage == "body" and self.cycle.response_started:
            self.transport.close()
        elif self._stage != "body" and self._answering():
            self._end_behind_the_last()
        else:
            if self._stage == "body":
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self._say(status, detail)

    def _end_behind_the_last(self) -> None:
        self._deaf, self._size = True, 0
        self.cycle.keep_alive = False

    def _say(self, status: HTTPStatus, detail: str) -> None:
        self._deaf, self._size = True, 0
        body = encode(ErrorResponse(WORDS[status], detail))
        head = HEAD % (len(body), self._log(status).encode())
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self._leave)

    def _leave(self) -> None:
        self.transport.close()
        self._end_unread()

    def _log(self, status: HTTPStatus) -> str:
        """Log what is known of the request that is refused, and return its id; one with a body the application logs."""
        if self._stage == "body":
            line = request_line(self.cycle.scope)
            line.status = status
        else:
            line = request_line(self._known())
            line.status = status
            access_log.write(line, self.loop.time() - self._since)
        return line.request_id

    def _known(self) -> dict[str, Any]:
        if self._stage == "blank":
            return {"method": "", "path": "", "headers": []}
        method = self.parser.get_method().decode() if self.url else ""
        return {"method": method, "path": self.url.partition(b"?")[0].decode("latin-1"), "headers": self.headers}


def protocol(request_timeout: float) -> type[asyncio.Protocol]:
    """Make what uvicorn calls for every connection; another process can be handed it, too."""
    return cast("type[asyncio.Protocol]", partial(Protocol, request_timeout=request_timeout))
