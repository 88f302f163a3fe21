"""A request whose JSON body is read by msgspec, strictly, straight into the type its handler asks for."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

import litestar
import msgspec
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from msgspec import UNSET, Raw
from uuid_utils.compat import uuid4

from alerts_service.db.statement_runner import StatementRunner
from alerts_service.errors import (
    IncompleteBody,
    InvalidToken,
    LineTooLong,
    ServiceOverloaded,
    UnsupportedMediaType,
    ValidationFailed,
    failure_reason,
)
from alerts_service.logging_config import request_id
from alerts_service.web.cross_site import sent_by_browser
from alerts_service.web.validation_messages import describe_body_error

MAX_BODY_BYTES = 1024 * 1024
MAX_GATHERED_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
JSON = re.compile(rb"application/([\w.+-]+\+)?json\s*(;|$)", re.IGNORECASE)
LINES = re.compile(rb"application/x-ndjson\s*(;|$)", re.IGNORECASE)
CURSOR = re.compile(r"(?:^|&)cursor=[^&]*")

T = TypeVar("T")
# A tenant, or on some routes perhaps none.
Named = TypeVar("Named", UUID, UUID | None)

decoder_for = lru_cache(msgspec.json.Decoder)


class Request(litestar.Request[Any, Any, Any]):
    """What a handler receives: the request, the tenant whose token it carries, and the database that answers it."""

    gathered: ClassVar[int] = 0  # bytes of all bodies that are still coming in, in this process
    _read: bytes | None = None
    _together: StatementRunner | None = None

    @property
    def database(self) -> StatementRunner:
        """The database of the application, or the transaction in which this request asks it."""
        database: StatementRunner = self._together or self.app.state.database
        return database

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[StatementRunner]:
        """Let all that this request changes be changed together, or not at all where the block raises."""
        async with self.app.state.database.transaction(tenant_id) as together:
            self._together = together
            try:
                yield together
            finally:
                self._together = None

    @property
    def tenant(self) -> UUID | None:
        """The tenant of the token; None where nobody asked for a token."""
        tenant: UUID | None = self.scope.get("auth")
        return tenant

    @property
    def actor(self) -> str:
        """Who calls, as the history tells it."""
        actor: str = self.scope.get("user", "anonymous")
        return actor

    def check_token(self) -> None:
        """Check that the token, if there is one, is still valid: a stream may outlast it.

        Raises:
            InvalidToken: it has expired since the request began.
        """
        scope: Any = self.scope
        if scope.get("token_expires_at", math.inf) <= time.time():
            raise InvalidToken("the token has expired")

    @property
    def id(self) -> str | None:
        """The request's id, which its log lines carry."""
        return request_id.get()

    def authorize_tenant(self, tenant_id: Named) -> Named:
        """Turn the tenant that a request names into the one that a statement may look at.

        With a token that is the token's own, named or not. Any other becomes a tenant that nobody is, so that it is
        answered exactly, and as fast, as an unknown one.
        """
        own = self.tenant
        if own is None or tenant_id == own:
            return tenant_id
        return own if tenant_id is None else uuid4()

    def next_page(self, cursor: str) -> dict[str, str]:
        """Make the header that names the page behind `cursor` of what this request asks for."""
        query = CURSOR.sub("", self.scope["query_string"].decode("latin-1"))
        path = f"{self.scope['root_path']}{self.scope['path']}"
        return {"Link": f'<{path}?{quote(query, safe="%&=+,:")}&cursor={cursor}>; rel="next"'}

    @property
    def streams(self) -> bool:
        """Whether the body is lines of JSON, on a route that `takes_lines`: it has no end that one could wait for."""
        if not self.route_handler.opt.get("takes_lines"):
            return False
        return any(name == b"content-type" and LINES.match(value) for name, value in self.scope["headers"])

    async def lines(self) -> AsyncIterator[list[bytes]]:
        """Read the body in lines, as many at a time as have come.

        Raises:
            LineTooLong: behind the lines before it.
            IncompleteBody: the caller has gone, or was too slow.
        """
        rest, more = b"", True
        while more:
            message: Any = await self.receive()
            if message["type"] == "http.disconnect":
                raise IncompleteBody
            more = message.get("more_body", False)
            *lines, rest = b"".join((rest, message.get("body", b""))).split(b"\n")
            if rest and not more:
                lines.append(rest)
            fit = _fitting([*lines, rest])
            if lines[:fit]:
                yield lines[:fit]
            if fit <= len(lines):
                raise LineTooLong("a line may have 64 KiB; what is behind it is not read")

    async def next_turn(self, coming: Awaitable[T]) -> T:
        """Await what the caller has to send next; the server sees in `scope["stream"]` since when it is their turn."""
        scope: Any = self.scope
        scope["stream"] = asyncio.get_running_loop().time()
        try:
            return await coming
        finally:
            scope["stream"] = math.inf

    def end_turns(self) -> None:
        """Let what is left of the body be one that nobody waits for."""
        cast("dict[str, Any]", self.scope).pop("stream", None)

    def values(self, header: bytes) -> list[bytes]:
        """Read the lines of a header, at a fraction of what it costs to have Litestar hand it over."""
        return [value for name, value in self.scope["headers"] if name == header]

    async def body(self) -> bytes:
        """Read the body, at a fraction of what Litestar's stream of it costs; that of a stream is left to be read.

        Raises:
            RequestEntityTooLarge: it has more bytes than we take, or says that it will.
            UnsupportedMediaType: its sender calls it something else.
            IncompleteBody: the caller has gone, or was too slow.
            ServiceOverloaded: so much of other bodies is coming in that there is no room for this one.
        """
        if self.streams:
            _check_plain(self.scope["headers"])
            return b""
        if self._read is None:
            declared = _check_announced(self.scope["headers"])
            message: Any = await self.receive()
            body = message.get("body", b"")
            if message.get("more_body"):
                message, body = await self._gather(message)
            if len(body) > MAX_BODY_BYTES:
                raise RequestEntityTooLarge
            if message["type"] == "http.disconnect":
                raise IncompleteBody
            if body and not declared and sent_by_browser(self.scope["headers"]):
                raise UnsupportedMediaType("Content-Type: missing; a browser must send application/json")
            self._read = body
        return self._read

    async def _gather(self, message: Any) -> tuple[Any, bytes]:
        """Read on from the first message of a body to its last, or to where it is too long; return both."""
        body = bytearray()
        try:
            while True:
                body += message.get("body", b"")
                Request.gathered += len(message.get("body", b""))
                if not message.get("more_body") or len(body) > MAX_BODY_BYTES:
                    return message, bytes(body)
                if Request.gathered > MAX_GATHERED_BYTES:
                    raise ServiceOverloaded("too many bodies are coming in")
                message = await self.receive()
        finally:
            Request.gathered -= len(body)

    @asynccontextmanager
    async def holding_body(self) -> AsyncIterator[None]:
        """Count the body among those that are coming in while the block waits.

        Raises:
            ServiceOverloaded: there is no room for it beside the others.
        """
        size = len(await self.body())
        if Request.gathered + size > MAX_GATHERED_BYTES:
            raise ServiceOverloaded("too many bodies are coming in")
        Request.gathered += size
        try:
            yield
        finally:
            Request.gathered -= size

    async def json(self) -> Any:
        """Decode the body into the type of the handler's `data`.

        Raises:
            ValidationFailed: it is no JSON, not UTF-8, or not of that type.
        """
        type_ = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return decode(type_, await self.body())

    def log_failure_reason(self, outcomes: Iterable[object]) -> None:
        """Tell the log line of a request that is answered with success what failed of it on our side first."""
        for outcome in outcomes:
            if isinstance(outcome, Exception) and (reason := failure_reason(outcome)):
                line: Any = self.scope.get("line")
                if line is not None and line.reason is UNSET:
                    line.reason = reason
                return


def decode(type_: Any, body: bytes | Raw) -> Any:
    """Decode a body.

    Raises:
        ValidationFailed: it is no JSON, not UTF-8, or not of that type.
    """
    decoded = decode_item(type_, body)
    if isinstance(decoded, ValidationFailed):
        raise decoded
    return decoded


def decode_item(type_: Any, body: bytes | Raw) -> Any:
    """Decode an item of a body, or return ValidationFailed.

    It is not raised: a traceback refers to the frame of the caller, and so to the list where the caller keeps the
    exception. Only the garbage collector frees such a cycle: 400,000 objects after bulk lists of invalid items, which
    took it 300 ms.
    """
    try:
        return decoder_for(type_).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return ValidationFailed(describe_body_error(error, type_) if bytes(body).strip() else "body: must not be empty")
    except RecursionError:
        return ValidationFailed("body: nested too deeply")


def _fitting(lines: list[bytes]) -> int:
    """Count the lines before the first that is too long."""
    if max(map(len, lines)) <= MAX_LINE_BYTES:
        return len(lines)
    return next(place for place, line in enumerate(lines) if len(line) > MAX_LINE_BYTES)


def _check_announced(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Refuse what is too long, what a browser's form sends, and what is compressed, before a byte of it is read.

    Return whether the body is declared as JSON. An undeclared body is taken for JSON unless a browser sent it: browsers
    send undeclared bodies of pages of other origins without a preflight request.
    """
    declared = False
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if name == b"content-type":
            if not JSON.match(value):
                raise UnsupportedMediaType("Content-Type: must be application/json")
            declared = True
    _check_plain(headers)
    return declared


def _check_plain(headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaType("Content-Encoding: must not be compressed")
