"""The request class of the handlers. msgspec decodes a JSON body strictly into the type that the handler declares."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
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
    MEDIA_TYPES,
    MEDIA_TYPES_WITH_NDJSON,
    NDJSON_TYPE,
    BodyBuffer,
    check_headers,
    check_not_compressed,
    read_lines,
    receive_at_once,
)
from alerts_service.web.validation_messages import describe_body_error

T = TypeVar("T")
# The tenant that a request names, which is optional on some routes.
NamedTenant = TypeVar("NamedTenant", UUID, UUID | None)

decoder_for = lru_cache(msgspec.json.Decoder)


class Request(litestar.Request[Any, Any, Any]):
    """A request, with its tenant and actor, its database or transaction, and its body."""

    _complete_body: bytes | None = None
    _transaction: StatementRunner | None = None

    @property
    def database(self) -> StatementRunner:
        """The transaction of this request, else the database of the application."""
        database: StatementRunner = self._transaction or self.app.state.database
        return database

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[StatementRunner]:
        """Run the statements of the block in a transaction, which is rolled back if the block raises.

        Transactions are queued round-robin by `tenant_id`. Their statements are not limited to this tenant.
        """
        async with self.app.state.database.transaction(tenant_id) as transaction:
            self._transaction = transaction
            try:
                yield transaction
            finally:
                self._transaction = None

    @property
    def tenant(self) -> UUID | None:
        """The tenant of the token, or None if the service does not require tokens."""
        tenant: UUID | None = self.scope.get("auth")
        return tenant

    @property
    def actor(self) -> str:
        """The actor of events: `token:` and a subject, `token`, `service`, or `anonymous`."""
        actor: str = self.scope.get("user", "anonymous")
        return actor

    def check_token(self) -> None:
        """Check that the token of the request has not expired. A stream may last longer than its token is valid.

        Raises:
            InvalidToken: The token has expired since the start of the request.
        """
        scope: Any = self.scope
        if scope.get("token_expires_at", math.inf) <= time.time():
            raise InvalidToken("Authorization: the token has expired")

    @property
    def id(self) -> str | None:
        """The request ID, which is a field of all log records of the request."""
        context = request_context.get()
        return None if context is None else context.request_id

    def authorize_tenant(self, tenant_id: NamedTenant) -> NamedTenant:
        """Return the ID of the tenant to which the statements of this request must be limited. None: no limit.

        Without a token, the ID is `tenant_id`. With a token, the ID is the tenant of the token. If the request names
        another tenant, the ID is random: the response and its duration are the same as for an unknown tenant.
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
        """Whether the body is NDJSON and the route accepts NDJSON. The length of such a body is not limited."""
        if not self._accepts_ndjson:
            return False
        return any(name == b"content-type" and NDJSON_TYPE.match(value) for name, value in self.scope["headers"])

    def lines(self) -> AsyncIterator[list[bytes]]:
        """Read the body as lines (see `read_lines`)."""
        return read_lines(self.receive)

    async def wait_for_client(self, receiving: Awaitable[T], part: str) -> T:
        """Wait for a part of the request, at most AS_ALERTS_REQUEST_TIMEOUT seconds.

        `asyncio.wait_for` is expensive before Python 3.12, where it creates a task, so the method is not called for a
        body that has already arrived. `asyncio.timeout` would require Python 3.11.

        Raises:
            RequestTimeout: The client did not send the part in time.
        """
        timeout: float = self.app.state.request_timeout
        try:
            return await asyncio.wait_for(receiving, timeout)
        except asyncio.TimeoutError:
            raise RequestTimeout(f"{part} must arrive within {timeout:g} s") from None

    async def body(self) -> bytes:
        """Read the body at a fraction of the cost of Litestar's stream. An NDJSON body is not read.

        Raises:
            BodyTooLarge: The body, or its declared length, exceeds 1 MiB. UnsupportedMediaType: The body is declared as
            another type than JSON, is compressed, or was sent by a browser
                without a type.
            IncompleteBody: The client disconnected.
            RequestTimeout: The body did not arrive in time.
            ServiceOverloaded: The limit for request bodies is reached.
        """
        if self.is_ndjson:
            check_not_compressed(self.scope["headers"], self._media_types)
            return b""
        if self._complete_body is not None:
            return self._complete_body
        declared = check_headers(self.scope["headers"], self._media_types)
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
            media_types = self._media_types
            detail = f"Content-Type: missing; a browser must send {' or '.join(media_types)}"
            raise UnsupportedMediaType(detail, media_types)
        self._complete_body = body
        return body

    @asynccontextmanager
    async def holding_body(self) -> AsyncIterator[None]:
        """Count the body against the limit for request bodies until the end of the block.

        Raises:
            ServiceOverloaded: The limit is reached.
        """
        with self._body_buffer.holding(len(await self.body())):
            yield

    @property
    def _accepts_ndjson(self) -> bool:
        return "accepts_ndjson" in self.route_handler.opt

    @property
    def _media_types(self) -> Sequence[str]:
        return MEDIA_TYPES_WITH_NDJSON if self._accepts_ndjson else MEDIA_TYPES

    @property
    def _body_buffer(self) -> BodyBuffer:
        buffer: BodyBuffer = self.app.state.body_buffer
        return buffer

    async def json(self) -> Any:
        """Decode the body into the type of the `data` parameter of the handler.

        Raises:
            ValidationFailed: The body is not JSON, not UTF-8, or not of this type.
        """
        type_ = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return decode(type_, await self.body())

    def log_failure_reason(self, outcomes: Iterable[object]) -> None:
        """Log the first server error among the outcomes of a bulk request, whose own status is 200."""
        for outcome in outcomes:
            if isinstance(outcome, Exception) and (reason := failure_reason(outcome)):
                context = request_context.get()
                if context is not None and context.reason is UNSET:
                    context.reason = reason
                return


def decode(type_: Any, body: bytes | Raw) -> Any:
    """Decode a body into a type.

    Raises:
        ValidationFailed: The body is not JSON, not UTF-8, or not of this type.
    """
    decoded = decode_item(type_, body)
    if isinstance(decoded, ValidationFailed):
        raise decoded
    return decoded


def decode_item(type_: Any, body: bytes | Raw) -> Any:
    """Decode an item of a body, or return ValidationFailed.

    The exception is not raised, because its traceback would form a reference cycle. The traceback refers to the frame
    of the caller, and the frame to the list that contains the exception. Only the garbage collector frees such cycles.
    Bulk lists of invalid items left 400,000 objects, which took the garbage collector 300 ms.
    """
    try:
        return decoder_for(type_).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return ValidationFailed(describe_body_error(error, type_) if bytes(body).strip() else "body: must not be empty")
    except RecursionError:
        return ValidationFailed("body: nested too deeply")
