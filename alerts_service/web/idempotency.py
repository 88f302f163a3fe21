"""Idempotent requests: a request with an `Idempotency-Key` header is executed once, and its response is replayed.

The key, the changes of the request and its response are committed in one transaction. A stored response therefore
proves that the request was executed, in any process and after any crash.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, TypeAlias, TypedDict, runtime_checkable
from uuid import UUID

from litestar import Response
from msgspec import Raw, Struct, msgpack, structs

from alerts_service.db.statement_runner import StatementRunner
from alerts_service.db.statements import Statement
from alerts_service.errors import AlertNotFound, Conflict, IdempotencyConflict, PreconditionFailed, ValidationFailed
from alerts_service.web.error_handlers import error_response
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse, T, encode

KEY_HEADER = b"idempotency-key"
IF_MATCH_HEADER = b"if-match"
REPLAYED = "Idempotent-Replayed"

# Visible ASCII characters, bare or as a quoted string (RFC 8941, section 3.3.3).
KEY_PATTERN = r'"([!#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254}'
KEY_REGEX = re.compile(KEY_PATTERN.encode())
ESCAPE_SEQUENCE = re.compile(rb"\\(.)")
NO_TENANT = UUID(int=0)
MAX_STORED_BYTES = 256 * 1024

# Runs its statements on `request.database`, which is the transaction of the key while a request has a key.
Handle: TypeAlias = Callable[[], Awaitable[Response[T]]]


class KeyParameters(TypedDict):
    """Parameters of idempotency/lock and idempotency/find. `route` is the method and the path of the request."""

    tenant_id: UUID
    route: str
    key: str


class StoreParameters(KeyParameters):
    """Parameters of idempotency/keep."""

    fingerprint: bytes
    status: int
    etag: str | None
    body: bytes


class KeyLock(Struct, frozen=True):
    """Whether this transaction holds the lock on the key. The end of the transaction releases the lock."""

    held: bool


class StoredResponse(Struct, frozen=True):
    """The response to the first request with a key, and the fingerprint of that request."""

    fingerprint: bytes
    status: int
    etag: str | None
    body: bytes


class StoredAt(Struct, frozen=True):
    """The time at which a response was stored."""

    created_at: datetime


@runtime_checkable
class BulkContent(Protocol):
    """The content of a bulk response, which can be shortened to be stored."""

    def without_alerts(self) -> Struct:
        """Return the content with the id of each alert in place of the alert."""

    def without_details(self) -> Struct:
        """Return the content with ids in place of alerts, and with errors without details."""


LOCK_KEY = Statement("idempotency/lock", KeyLock, parameters=KeyParameters)
FIND_RESPONSE = Statement("idempotency/find", StoredResponse, parameters=KeyParameters)
STORE_RESPONSE = Statement("idempotency/keep", StoredAt, parameters=StoreParameters)


async def idempotent(
    request: Request,
    tenant_id: UUID | None,
    handle: Handle[T],
    *,
    find_tenant: Callable[[], Awaitable[UUID | None]] | None = None,
    dry_run: bool = False,
) -> Response[T]:
    """Call `handle` and store its response, or replay the stored response. Without a key, only call `handle`.

    A key is valid for one tenant, method and path. The tenant is the tenant of the token, else `tenant_id` (the tenant
    that the request names), else the result of `find_tenant`. The key of a dry run is validated, but nothing is stored.

    Raises:
        ValidationFailed: The key is not valid, was used for a different request, or the body is NDJSON.
        IdempotencyConflict: The first request with this key is still running.
    """
    header_values = request.header_values(KEY_HEADER)
    if not header_values:
        return await handle()
    if request.is_ndjson:
        raise ValidationFailed("Idempotency-Key: not supported with application/x-ndjson; send application/json")
    key = _parse_key(header_values)
    if dry_run:
        return await handle()
    named_tenant = request.tenant or tenant_id
    found_tenant = await find_tenant() if named_tenant is None and find_tenant is not None else None
    key_parameters: KeyParameters = {
        "tenant_id": named_tenant or found_tenant or NO_TENANT,
        "route": f"{request.scope['method']} {request.scope['path']}",
        "key": key,
    }
    return await _run_once(request, key_parameters, handle, tenant_was_found=found_tenant is not None)


def _parse_key(header_values: list[bytes]) -> str:
    if len(header_values) != 1 or not KEY_REGEX.fullmatch(header_values[0]):
        raise ValidationFailed("Idempotency-Key: must be 1 to 255 visible ASCII characters, optionally in quotes")
    (value,) = header_values
    key = ESCAPE_SEQUENCE.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value
    return key.decode("ascii")


async def _run_once(
    request: Request, key_parameters: KeyParameters, handle: Handle[T], *, tenant_was_found: bool
) -> Response[T]:
    """Lock the key, and replay its stored response. Without a stored response, call `handle`."""
    fingerprint = await _fingerprint(request)
    async with request.transaction(key_parameters["tenant_id"]) as database:
        if not (await database.one(LOCK_KEY, **key_parameters)).held:
            raise IdempotencyConflict("Idempotency-Key: the first request with this key is still running")
        stored = await database.one_or_none(FIND_RESPONSE, **key_parameters)
        if stored is None and tenant_was_found:
            stored = await _find_without_tenant(database, key_parameters, fingerprint)
        if stored is None:
            return await _run_and_store(request, database, key_parameters, fingerprint, handle)
    if stored.fingerprint != fingerprint:
        raise ValidationFailed("Idempotency-Key: already used for a different request")
    return _to_response(stored, replayed=True)


async def _fingerprint(request: Request) -> bytes:
    """Hash the query, the If-Match header and the body: with the method and path they determine the effect."""
    parts = (request.scope["query_string"], request.header_values(IF_MATCH_HEADER), await request.body())
    return sha256(msgpack.encode(parts)).digest()


async def _find_without_tenant(
    database: StatementRunner, key_parameters: KeyParameters, fingerprint: bytes
) -> StoredResponse | None:
    """Find a response that an earlier version stored without a tenant, because the request named none."""
    stored = await database.one_or_none(FIND_RESPONSE, **(key_parameters | {"tenant_id": NO_TENANT}))
    return stored if stored is not None and stored.fingerprint == fingerprint else None


async def _run_and_store(
    request: Request, database: StatementRunner, key_parameters: KeyParameters, fingerprint: bytes, handle: Handle[T]
) -> Response[T]:
    """Call `handle`, and store its response. An error that depends on the state of the alert is stored too.

    The client receives the complete response. The stored response may be shortened.
    """
    try:
        response: Response[Any] = await handle()
    except (AlertNotFound, Conflict, PreconditionFailed) as error:
        response = error_response(request, error)
    status = response.status_code or request.route_handler.status_code
    sent = StoredResponse(fingerprint, status, response.headers.get("ETag"), encode(response.content))
    stored = structs.replace(sent, body=_shorten(sent.body, response.content))
    await database.one(STORE_RESPONSE, **key_parameters, **structs.asdict(stored))
    return _to_response(sent)


def _shorten(body: bytes, content: Any) -> bytes:
    """Shorten the body of a bulk response to MAX_STORED_BYTES.

    A response with a single alert is stored unchanged. Such a response exceeds the size only if the alert was stored
    before the length of texts was limited.
    """
    if len(body) > MAX_STORED_BYTES and isinstance(content, BulkContent):
        body = encode(content.without_alerts())
        if len(body) > MAX_STORED_BYTES:
            body = encode(content.without_details())
    return body


def _to_response(stored: StoredResponse, *, replayed: bool = False) -> Response[Any]:
    headers = {"ETag": stored.etag} if stored.etag is not None else {}
    if replayed:
        headers[REPLAYED] = "true"
    return JSONResponse(Raw(stored.body), status_code=stored.status, headers=headers)
