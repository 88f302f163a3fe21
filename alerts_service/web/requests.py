"""The request that handlers receive. Its JSON body is decoded by msgspec, strictly, into the type of the handler."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import litestar
import msgspec
from msgspec import UNSET, Raw
from uuid_utils.compat import uuid4

from alerts_service.db.statement_runner import StatementRunner
from alerts_service.errors import (
    BODY_TOO_LARGE,
    BodyTooLarge,
    IncompleteBody,
    InvalidToken,
    RequestTimeout,
    UnsupportedMediaType,
    ValidationFailed,
    failure_reason,
)
from alerts_service.logging_config import request_context
from alerts_service.web.cross_site import sent_by_browser
from alerts_service.web.request_body import (
    MAX_BODY_BYTES,
    NDJSON_TYPE,
    BodyBuffer,
    check_headers,
    check_not_compressed,
    read_lines,
    receive_at_once,
)
from alerts_service.web.validation_messages import describe_body_error

T = TypeVar("T")
# The tenant that a request names. On some routes it is optional.
NamedTenant = TypeVar("NamedTenant", UUID, UUID | None)

decoder_for = lru_cache(msgspec.json.Decoder)


class Request(litestar.Request[Any, Any, Any]):
    """A request, with its tenant and actor, its database or transaction, and its body."""

    _complete_body: bytes | None = None
    _transaction: StatementRunner | None = None

    @property
    def database(self) -> StatementRunner:
        """The transaction of this request, or else the database of the application."""
        database: StatementRunner = self._transaction or self.app.state.database
        return database

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[StatementRunner]:
        """Commit all changes of the block together, or none if it raises."""
        async with self.app.state.database.transaction(tenant_id) as transaction:
            self._transaction = transaction
            try:
                yield transaction
            finally:
                self._transaction = None

    @property
    def tenant(self) -> UUID | None:
        """The tenant of the token. None if the service does not require tokens."""
        tenant: UUID | None = self.scope.get("auth")
        return tenant

    @property
    def actor(self) -> str:
        """The client, as events name it."""
        actor: str = self.scope.get("user", "anonymous")
        return actor

    def check_token(self) -> None:
        """Check that the token, if there is one, is still valid: a stream may outlast it.

        Raises:
            InvalidToken: the token has expired since the request began.
        """
        scope: Any = self.scope
        if scope.get("token_expires_at", math.inf) <= time.time():
            raise InvalidToken("Authorization: the token has expired")

    @property
    def id(self) -> str | None:
        """The request id, which all log records of the request carry."""
        context = request_context.get()
        return None if context is None else context.request_id

    def authorize_tenant(self, tenant_id: NamedTenant) -> NamedTenant:
        """Return the tenant to which the statements of this request are limited.

        With a token that is the token's tenant, whether the request names it or not. If the request names another
        tenant, it is a random one: the response is the same as for an unknown tenant, and takes as long.
        """
        token_tenant = self.tenant
        if token_tenant is None or tenant_id == token_tenant:
            return tenant_id
        return token_tenant if tenant_id is None else uuid4()

    def header_values(self, header: bytes) -> list[bytes]:
        """Return the values of a header, at a fraction of the cost of Litestar's `headers`."""
        return [value for name, value in self.scope["headers"] if name == header]

    @property
    def is_ndjson(self) -> bool:
        """Whether the body is NDJSON, on a route that accepts it. Such a body may have any length."""
        if not self.route_handler.opt.get("accepts_ndjson"):
            return False
        return any(name == b"content-type" and NDJSON_TYPE.match(value) for name, value in self.scope["headers"])

    def lines(self) -> AsyncIterator[list[bytes]]:
        """Read the body as lines, see `read_lines`."""
        return read_lines(self.receive)

    async def wait_for_client(self, receiving: Awaitable[T], part: str) -> T:
        """Wait for a part of the request, at most AS_ALERTS_REQUEST_TIMEOUT seconds.

        `asyncio.timeout` needs Python 3.11, and `asyncio.wait_for` no dependency. Only requests that are not complete
        at once come here, so its cost (a task on Python before 3.12) does not matter.

        Raises:
            RequestTimeout: the client did not send the part in time.
        """
        timeout: float = self.app.state.request_timeout
        try:
            return await asyncio.wait_for(receiving, timeout)
        except asyncio.TimeoutError:
            raise RequestTimeout(f"{part} must arrive within {timeout:g} s") from None

    async def body(self) -> bytes:
        """Read the body, at a fraction of the cost of Litestar's stream. The body of an NDJSON request is not read.

        Raises:
            BodyTooLarge: the body, or its declared length, exceeds 1 MiB.
            UnsupportedMediaType: the body is not declared as JSON, or is compressed.
            IncompleteBody: the client disconnected.
            RequestTimeout: the body did not arrive in time.
            ServiceOverloaded: the buffer for request bodies is full.
        """
        if self.is_ndjson:
            check_not_compressed(self.scope["headers"])
            return b""
        if self._complete_body is not None:
            return self._complete_body
        declared = check_headers(self.scope["headers"])
        message = receive_at_once(self.receive)
        if message is None or message.get("more_body"):
            body = await self.wait_for_client(self._body_buffer.read(self.receive, message), "the request body")
        elif message["type"] == "http.disconnect":
            raise IncompleteBody
        else:
            body = message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(BODY_TOO_LARGE)
        if body and not declared and sent_by_browser(self.scope["headers"]):
            raise UnsupportedMediaType("Content-Type: missing; a browser must send application/json")
        self._complete_body = body
        return body

    @asynccontextmanager
    async def holding_body(self) -> AsyncIterator[None]:
        """Count the body in the buffer for request bodies while the block uses it.

        Raises:
            ServiceOverloaded: the buffer is full.
        """
        with self._body_buffer.holding(len(await self.body())):
            yield

    @property
    def _body_buffer(self) -> BodyBuffer:
        buffer: BodyBuffer = self.app.state.body_buffer
        return buffer

    async def json(self) -> Any:
        """Decode the body into the type of the handler's `data`.

        Raises:
            ValidationFailed: the body is not JSON, not UTF-8, or not of that type.
        """
        type_ = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return decode(type_, await self.body())

    def log_failure_reason(self, outcomes: Iterable[object]) -> None:
        """Log the first failure of the service among the outcomes of a request whose own status is a success."""
        for outcome in outcomes:
            if isinstance(outcome, Exception) and (reason := failure_reason(outcome)):
                context = request_context.get()
                if context is not None and context.reason is UNSET:
                    context.reason = reason
                return


def decode(type_: Any, body: bytes | Raw) -> Any:
    """Decode a body.

    Raises:
        ValidationFailed: the body is not JSON, not UTF-8, or not of that type.
    """
    decoded = decode_item(type_, body)
    if isinstance(decoded, ValidationFailed):
        raise decoded
    return decoded


def decode_item(type_: Any, body: bytes | Raw) -> Any:
    """Decode an item of a body, or return ValidationFailed.

    The exception is not raised: a traceback refers to the frame of the caller, and so to the list in which the caller
    keeps the exception. Only the garbage collector frees such a cycle: bulk lists of invalid items left 400,000
    objects, which took it 300 ms.
    """
    try:
        return decoder_for(type_).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return ValidationFailed(describe_body_error(error, type_) if bytes(body).strip() else "body: must not be empty")
    except RecursionError:
        return ValidationFailed("body: nested too deeply")
