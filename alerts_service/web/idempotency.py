"""A request that comes again with its Idempotency-Key is answered again, and done once.

The key, the change and the answer are committed together, so a key tells for sure what became of a request, whichever
process is asked and whatever happened to the one that was.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from litestar import Response
from msgspec import Raw, Struct, msgpack, structs

from alerts_service.db.database import Statement
from alerts_service.db.statement_runner import StatementRunner
from alerts_service.errors import AlertNotFound, Conflict, IdempotencyConflict, PreconditionFailed, ValidationFailed
from alerts_service.web.error_handlers import error_response
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse, T, encode

HEADER = b"idempotency-key"
IF_MATCH = b"if-match"
REPLAYED = "Idempotent-Replayed"

# Visible ASCII, as it is or as a string of RFC 8941.
KEY_PATTERN = r'"([!#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254}'
KEY = re.compile(KEY_PATTERN.encode())
ESCAPED = re.compile(rb"\\(.)")
NOBODY = UUID(int=0)
MAX_STORED_BYTES = 256 * 1024


class Lock(Struct, frozen=True):
    """Whether the key is ours until the end of the transaction."""

    held: bool


class Answer(Struct, frozen=True):
    """The first answer to a key, and what it was an answer to."""

    fingerprint: bytes
    status: int
    etag: str | None
    body: bytes


class Kept(Struct, frozen=True):
    """Since when an answer is kept."""

    created_at: datetime


@runtime_checkable
class BulkContent(Protocol):
    """The content of a bulk response, which can be shortened."""

    def without_alerts(self) -> Struct:
        """Name each alert by its id alone."""

    def without_details(self) -> Struct:
        """Leave out the details of errors too."""


LOCK = Statement("idempotency/lock", Lock)
FIND = Statement("idempotency/find", Answer)
KEEP = Statement("idempotency/keep", Kept)


async def idempotent(
    request: Request,
    tenant_id: UUID | None,
    work: Callable[[], Awaitable[Response[T]]],
    *,
    find_tenant: Callable[[], Awaitable[UUID | None]] | None = None,
    dry_run: bool = False,
) -> Response[T]:
    """Do the work of a request, or answer as the first request with its key was answered.

    A key belongs to the token's tenant, or else to the one that the request names, or else to the one that
    `find_tenant` returns, and to the method and the path. The key of a dry run is checked and has no effect.

    Raises:
        ValidationFailed: it is no key, or one that came with another request.
        IdempotencyConflict: the first request with this key is not done.
    """
    given = request.values(HEADER)
    if not given:
        return await work()
    if request.streams:
        raise ValidationFailed("Idempotency-Key: not with a stream")
    key = _key(given)
    if dry_run:
        return await work()
    given_tenant = request.tenant or tenant_id
    found_tenant = await find_tenant() if given_tenant is None and find_tenant is not None else None
    route = f"{request.scope['method']} {request.scope['path']}"
    named = {"tenant_id": given_tenant or found_tenant or NOBODY, "route": route, "key": key}
    return await _run_with_key(request, named, work, found=found_tenant is not None)


async def _run_with_key(
    request: Request, named: dict[str, Any], work: Callable[[], Awaitable[Response[T]]], *, found: bool
) -> Response[T]:
    """Do the work of a request with a key, whose tenant was `found` and not named by the request."""
    fingerprint = await _fingerprint(request)
    async with request.transaction(named["tenant_id"]) as database:
        if not (await database.one(LOCK, **named)).held:
            raise IdempotencyConflict("Idempotency-Key: the first request with this key is still running")
        known = await database.one_or_none(FIND, **named)
        if known is None and found:
            known = await _found_without_tenant(database, named, fingerprint)
        if known is None:
            first, stored = await _first(request, fingerprint, work)
            await database.one(KEEP, **named, **structs.asdict(stored))
            return _response(first)
        if known.fingerprint != fingerprint:
            raise ValidationFailed("Idempotency-Key: came with another request before")
        return _response(known, replayed=True)


async def _found_without_tenant(database: StatementRunner, named: dict[str, Any], fingerprint: bytes) -> Answer | None:
    """Find the response to the same request where an earlier version stored it: under no tenant."""
    stored = await database.one_or_none(FIND, **{**named, "tenant_id": NOBODY})
    return stored if stored is not None and stored.fingerprint == fingerprint else None


async def _first(
    request: Request, fingerprint: bytes, work: Callable[[], Awaitable[Response[Any]]]
) -> tuple[Answer, Answer]:
    """Do the work, and return the answer and what is stored of it.

    That an alert is not there, or not as it should be, is an answer too.
    """
    try:
        response = await work()
    except (AlertNotFound, Conflict, PreconditionFailed) as refusal:
        response = error_response(request, refusal)
    status = response.status_code or request.route_handler.status_code
    answer = Answer(fingerprint, status, response.headers.get("ETag"), encode(response.content))
    return answer, structs.replace(answer, body=_bounded(answer.body, response.content))


def _bounded(body: bytes, content: Any) -> bytes:
    """Shorten the body of a bulk response that is too large to be stored.

    Another body is as large only where its alert is older than the limits of its texts.
    """
    if len(body) > MAX_STORED_BYTES and isinstance(content, BulkContent):
        body = encode(content.without_alerts())
        if len(body) > MAX_STORED_BYTES:
            body = encode(content.without_details())
    return body


def _response(answer: Answer, *, replayed: bool = False) -> Response[Any]:
    headers = {"ETag": answer.etag} if answer.etag is not None else {}
    if replayed:
        headers[REPLAYED] = "true"
    return JSONResponse(Raw(answer.body), status_code=answer.status, headers=headers)


def _key(values: list[bytes]) -> str:
    if len(values) != 1 or not KEY.fullmatch(values[0]):
        raise ValidationFailed(
            "Idempotency-Key: must be 1 to 255 visible ASCII characters, with or without quotes around them"
        )
    (value,) = values
    key = ESCAPED.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value
    return key.decode("ascii")


async def _fingerprint(request: Request) -> bytes:
    """Tell a request from another one that means something else."""
    said = (request.scope["query_string"], request.values(IF_MATCH), await request.body())
    return sha256(msgpack.encode(said)).digest()
