"""uvicorn's HTTP protocol with limits of time and size.

uvicorn waits without a limit for the rest of a request head, and for the client to read a response. httptools accepts a
head of any length. If a request offers an upgrade to another protocol, httptools skips its body, although this service
never upgrades a connection. The application limits the body of a request; see `alerts_service.web.requests`.
"""

import asyncio
import re
from functools import partial
from typing import Any, Literal, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alerts_service.errors import ApiError, HeadTooLarge, MalformedRequest, RequestTimeout
from alerts_service.server.read_timeout import ReadTimeout
from alerts_service.server.response_cycle import MALFORMED, ResponseCycle, encode_error
from alerts_service.server.trailers import Trailers
from alerts_service.web.access_log import access_log
from alerts_service.web.middleware import new_request_context

MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED_REQUESTS = 100  # requests of a connection that wait for the response to an earlier one
LAST_REQUEST_SECONDS = 0.5  # how long a connection without a request stays open during shutdown
LINGER_SECONDS = 1.0  # how long a client that is still sending may take to read an error response
MAX_DISCARDED_BYTES = 8 * 1024 * 1024  # input that is read and discarded after a response

UPGRADE = re.compile(rb"\bupgrade\b", re.IGNORECASE)


class RequestRejected(Exception):
    """Stops the parser at a rejected request, so that the request does not reach the application."""


# uvicorn has no option for the class of its request cycles. The class is replaced when this module is imported, as a
# worker process runs no startup code of the service: it imports this module to unpickle the protocol factory.
httptools_impl.RequestResponseCycle = ResponseCycle  # type: ignore[misc] # mypy forbids assigning to a class name


class HttpProtocol(HttpToolsProtocol):
    """An HTTP connection with limits.

    A request head must be complete within `request_timeout` seconds after its first byte. If a response is sent before
    the request body is complete, the rest of the body must arrive within `request_timeout` seconds after the response.
    """

    cycle: ResponseCycle

    def __init__(self, *args: Any, request_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_timeout = request_timeout
        # The incomplete part of the input: none, line breaks before a request, a head, or a body.
        self._stage: Literal["idle", "blank", "head", "body"] = "idle"
        self._started_at = 0.0  # time of the event loop at which the time limit began
        self._size = 0  # bytes of the incomplete part; for a head after another request, without the first read
        self._last_read = 0  # bytes of the last read
        self._largest_read = 0  # bytes of the largest read that may contain a part of the incomplete request
        self._upgrade_head: bytes | None = None  # a head that offered an upgrade, without the offer
        self._shutting_down = False
        self._discarding = False  # whether all further input is discarded
        self._deadline_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the first request."""
        stream = cast("asyncio.Transport", transport)
        super().connection_made(stream)
        self._read_timeout = ReadTimeout(self.loop, stream, self._request_timeout)
        self._begin("blank")
        self._start_deadline_timer(self._request_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._read_timeout.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the time limit for the client to read its response."""
        super().pause_writing()
        self._read_timeout.start()

    def resume_writing(self) -> None:
        """End the time limit for the client to read its response, unless the connection is closing."""
        if not self.transport.is_closing():
            self._read_timeout.cancel()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse data. If a request is still incomplete, check the limits."""
        if self._stage == "idle":
            self._begin("blank")
        self._last_read = len(data)
        self._largest_read = max(self._largest_read, self._last_read)
        self._size += self._last_read
        if not self._discarding:
            self._parse(data)
        if self._stage != "idle":
            self._check_incomplete()

    def on_message_begin(self) -> None:
        """Start the time limit of a request that arrived together with an earlier one."""
        if self._stage == "idle":
            self._begin("head")
        self._stage = "head"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start a request, unless its head is too large or the pipeline is full.

        Raises:
            RequestRejected: the request is not started.
        """
        self._unset_keepalive_if_required()
        if self._size + self._largest_read > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._reject_large_head()
            raise RequestRejected
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            self._close_after_response()
            raise RequestRejected
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._reject(MalformedRequest("CONNECT is not supported; GET, HEAD, OPTIONS, POST and PUT are"))
                raise RequestRejected
            self._upgrade_head = self._head_without_upgrade()
            return
        super().on_headers_complete()
        self._stage, self._size = "body", 0
        if self._shutting_down:
            self.cycle.keep_alive = False
        self.headers: Any = Trailers()

    def on_message_complete(self) -> None:
        """Finish a request."""
        if self._upgrade_head is not None:
            return
        self._stage, self._size, self._largest_read = "idle", 0, self._last_read
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next request of the pipeline, and limit the rest of an unread body."""
        super().on_response_complete()
        if self._is_unread_body() and not self.transport.is_closing():
            self._begin("body")
            if self.cycle.lingering:
                self._linger()
            elif self._deadline_timer is None:
                self._start_deadline_timer(self._request_timeout)
        self._limit_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an unused connection."""
        super().timeout_keep_alive_handler()
        self._limit_closing()

    def shutdown(self) -> None:
        """Close the connection after its requests, or after LAST_REQUEST_SECONDS without a request."""
        if self._shutting_down or self._is_answering():
            super().shutdown()
            self._limit_closing()
        else:
            self.loop.call_later(LAST_REQUEST_SECONDS, self.shutdown)
        self._shutting_down = True

    def _check_incomplete(self) -> None:
        if self._discarding or self._is_unread_body():
            if self._size > MAX_DISCARDED_BYTES:
                self.flow.pause_reading()
        elif self._stage != "body":
            if self._deadline_timer is None:
                self._start_deadline_timer(self._request_timeout)
            if self._size > MAX_HEAD_BYTES:
                self._reject_large_head()

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            head, self._upgrade_head = self._upgrade_head or b"", None
            self.parser = HttpRequestParser(self)
            self._parse(head + data[upgrade.args[0] :])
        except HttpParserError:  # also if a callback raises RequestRejected
            if not self._discarding:
                self._reject_malformed()

    def _head_without_upgrade(self) -> bytes:
        """Return the head of a request that offers an upgrade, without the offer."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name != b"upgrade":
                lines.append(name + b": " + (UPGRADE.sub(b"", value) if name == b"connection" else value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _head_size(self) -> int:
        """Return the size of a head in its usual form, with one header per line as `name: value`."""
        request_line = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n\r\n")
        return request_line + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)

    def _begin(self, stage: Literal["blank", "head", "body"]) -> None:
        self._stage, self._started_at, self._size = stage, self.loop.time(), 0

    def _start_deadline_timer(self, seconds: float) -> None:
        self._deadline_timer = self.loop.call_later(seconds, self._check_deadline)

    def _check_deadline(self) -> None:
        """Reject an incomplete head after its time limit, unless an earlier request has no response yet.

        The connection has a single timer, which is not restarted for each request. When the timer fires, the limit of
        the current request is checked. If this limit has not expired, the timer is started for the remaining time.
        """
        self._deadline_timer = None
        if self._discarding or self.transport.is_closing() or self._stage == "idle":
            return
        if self._is_answering():
            if self._stage == "body":  # the application limits the body
                return
            self._started_at = self.loop.time()
        remaining = self._started_at + self._request_timeout - self.loop.time()
        if remaining > 0:
            self._start_deadline_timer(remaining)
        elif self._stage == "head":
            limit = f"the request line and headers must arrive within {self._request_timeout:g} s"
            self._reject(RequestTimeout(limit))
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_unread_body(self) -> bool:
        """Return whether the client is still sending the body of a request after the response to it."""
        return self._stage == "body" and self.cycle.response_complete

    def _limit_closing(self) -> None:
        """If the connection is closing, start the time limit for the client to read its last response."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._read_timeout.start()

    def _reject_large_head(self) -> None:
        self._reject(HeadTooLarge("the request line and headers must not exceed 64 KiB"))

    def _reject_malformed(self) -> None:
        if self._stage != "body":
            self._reject(MalformedRequest(MALFORMED))
            return
        self._discard_input()
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.reject_body()

    def _reject(self, error: ApiError) -> None:
        """Respond to an incomplete head with an error, and close the connection.

        If an earlier request has no response yet, only close the connection after that response.
        """
        if self._is_answering():
            self._close_after_response()
        else:
            self._send_error(error)

    def _close_after_response(self) -> None:
        self._discard_input()
        self.cycle.keep_alive = False

    def _send_error(self, error: ApiError) -> None:
        context = new_request_context(*self._parsed_head())
        context.status = error.status
        access_log.write(context, self.loop.time() - self._started_at)
        self.transport.write(encode_error(error, context.request_id))
        self._linger()

    def _parsed_head(self) -> tuple[str, str, list[tuple[bytes, bytes]]]:
        """Return the method, path and headers of an incomplete head. Parts that have not arrived are empty."""
        if self._stage == "blank":
            return "", "", []
        method = self.parser.get_method().decode() if self.url else ""
        return method, self.url.partition(b"?")[0].decode("latin-1"), self.headers

    def _discard_input(self) -> None:
        self._discarding, self._size = True, 0

    def _linger(self) -> None:
        """Close the connection after the client has had time to read the response (RFC 9112, section 9.6)."""
        self._discard_input()
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self._close)

    def _close(self) -> None:
        self.transport.close()
        self._limit_closing()


def protocol_factory(request_timeout: float) -> type[asyncio.Protocol]:
    """Return the function that uvicorn calls for each connection. It can be pickled for a worker process."""
    return cast("type[asyncio.Protocol]", partial(HttpProtocol, request_timeout=request_timeout))
