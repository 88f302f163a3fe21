"""The least that can answer: ASGI, msgspec and asyncpg, one query a request and no framework."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from tests.bench.peers import common

if TYPE_CHECKING:
    from asyncpg import Pool, Record

Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["triggered", "acknowledged", "resolved"]


class CreateAlert(Struct, forbid_unknown_fields=True):
    tenant_id: UUID
    rule_name: Annotated[str, Meta(min_length=1, max_length=255)]
    message: Annotated[str, Meta(min_length=1, max_length=10_000)]
    severity: Severity = "medium"


class NoteRequest(Struct, forbid_unknown_fields=True):
    note: Annotated[str, Meta(max_length=10_000)] | None = None


class Filters(Struct):
    tenant_id: UUID
    status: Status | None = None
    severity: Severity | None = None


class Alert(Struct):
    id: UUID
    tenant_id: UUID
    rule_name: str
    message: str
    severity: str
    status: str
    created_at: datetime
    updated_at: datetime
    acknowledged_at: datetime | None
    acknowledgment_note: str | None
    resolved_at: datetime | None
    resolution_note: str | None


class Stats(Struct):
    total: int
    triggered: int
    acknowledged: int
    resolved: int


HEALTHY: dict[str, str] = {"status": "healthy", "service": "as-alerts-service"}
Answer = tuple[int, object]

encode = msgspec.json.Encoder().encode
decode_alert = msgspec.json.Decoder(CreateAlert).decode
decode_note = msgspec.json.Decoder(NoteRequest).decode


class Peer:
    pool: "Pool[Record]"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        try:
            status, answer = await self.answer(scope["method"], scope["path"].split("/")[1:], scope, receive)
        except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
            status, answer = 422, {"error": "Validation error", "detail": str(error)}
        body = encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def live(self, receive: Any, send: Any) -> None:
        await receive()
        self.pool = await common.open_pool()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, method: str, path: list[str], scope: Any, receive: Any) -> Answer:  # noqa: PLR0911 - a return a route
        match method, path:
            case "GET", ["alerts", id_]:
                return alert_or_404(await self.pool.fetchrow(common.GET, UUID(id_)))
            case "GET", ["alerts"]:
                query = msgspec.convert(dict(parse_qsl(scope["query_string"].decode())), Filters)
                records = await self.pool.fetch(common.LIST, query.tenant_id, query.status, query.severity)
                return 200, [Alert(*record) for record in records]
            case "POST", ["alerts"]:
                new = decode_alert(await read(receive))
                values = (new.tenant_id, new.rule_name, new.message, new.severity)
                return 201, Alert(*await self.pool.fetchrow(common.CREATE, *values) or ())
            case "PUT", ["alerts", id_, ("acknowledge" | "resolve") as verb]:
                note = decode_note(await read(receive)).note
                return await self.move(common.ACKNOWLEDGE if verb == "acknowledge" else common.RESOLVE, UUID(id_), note)
            case "GET", ["stats", tenant_id]:
                return 200, Stats(*await self.pool.fetchrow(common.STATS, UUID(tenant_id)) or ())
            case "GET", ["health"]:
                await self.pool.fetchrow("SELECT 1")
                return 200, HEALTHY
        return 404, {"error": "Not found", "detail": None}

    async def move(self, sql: str, id_: UUID, note: str | None) -> Answer:
        record = await self.pool.fetchrow(sql, id_, note)
        if record is None and await self.pool.fetchrow(common.GET, id_) is not None:
            return 409, {"error": "Conflict", "detail": None}
        return alert_or_404(record)


def alert_or_404(record: "Record | None") -> Answer:
    return (404, {"error": "Alert not found", "detail": None}) if record is None else (200, Alert(*record))


async def read(receive: Any) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


if __name__ == "__main__":
    common.serve(Peer())
