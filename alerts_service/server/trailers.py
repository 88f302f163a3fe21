"""The headers after a chunked body (RFC 9112, section 7.1.2)."""

from collections import deque

from alerts_service.errors import HeadTooLarge

MAX_TRAILER_BYTES = 64 * 1024


class Trailers(deque[tuple[bytes, bytes]]):
    """Discards the trailers of a request, because the application already handles the request."""

    def __init__(self) -> None:
        super().__init__(maxlen=0)
        self._size = 0

    def append(self, trailer: tuple[bytes, bytes]) -> None:
        """Count and discard a trailer.

        Raises:
            HeadTooLarge: The trailers exceed MAX_TRAILER_BYTES. The exception stops the parser.
        """
        name, value = trailer
        self._size += len(name) + len(value)
        if self._size > MAX_TRAILER_BYTES:
            raise HeadTooLarge
