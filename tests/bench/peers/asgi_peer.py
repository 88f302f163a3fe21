"""An implementation without a framework: ASGI, msgspec and asyncpg, one query per request."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from tests.bench.peers import queries, runtime

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
StatusAndBody = tuple[int, object]

encode = msgspec.json.Encoder().encode
decode_alert = msgspec.json.Decoder(CreateAlert).decode
decode_note = msgspec.json.Decoder(NoteRequest).decode


class Peer:
    pool: "Pool[Record]"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.run_lifespan(receive, send)
            return
        try:
            status, content = await self.handle(scope["method"], scope["path"].split("/")[1:], scope, receive)
        except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
            status, content = 422, {"error": "Validation error", "detail": str(error)}
        body = encode(content)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def run_lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        self.pool = await runtime.open_pool()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def handle(self, method: str, path: list[str], scope: Any, receive: Any) -> StatusAndBody:  # noqa: PLR0911 - one return per route
        match method, path:
            case "GET", ["alerts", alert_id]:
                return alert_or_404(await self.pool.fetchrow(queries.GET, UUID(alert_id)))
            case "GET", ["alerts"]:
                filters = msgspec.convert(dict(parse_qsl(scope["query_string"].decode())), Filters)
                records = await self.pool.fetch(queries.LIST, filters.tenant_id, filters.status, filters.severity)
                return 200, [Alert(*record) for record in records]
            case "POST", ["alerts"]:
                alert = decode_alert(await read_body(receive))
                values = (alert.tenant_id, alert.rule_name, alert.message, alert.severity)
                return 201, Alert(*await self.pool.fetchrow(queries.CREATE, *values) or ())
            case "PUT", ["alerts", alert_id, ("acknowledge" | "resolve") as verb]:
                note = decode_note(await read_body(receive)).note
                sql = queries.ACKNOWLEDGE if verb == "acknowledge" else queries.RESOLVE
                return await self.transition(sql, UUID(alert_id), note)
            case "GET", ["stats", tenant_id]:
                return 200, Stats(*await self.pool.fetchrow(queries.STATS, UUID(tenant_id)) or ())
            case "GET", ["health"]:
                await self.pool.fetchrow("SELECT 1")
                return 200, HEALTHY
        return 404, {"error": "Not found", "detail": None}

    async def transition(self, sql: str, alert_id: UUID, note: str | None) -> StatusAndBody:
        record = await self.pool.fetchrow(sql, alert_id, note)
        if record is None and await self.pool.fetchrow(queries.GET, alert_id) is not None:
            return 409, {"error": "Conflict", "detail": None}
        return alert_or_404(record)


def alert_or_404(record: "Record | None") -> StatusAndBody:
    return (404, {"error": "Alert not found", "detail": None}) if record is None else (200, Alert(*record))


async def read_body(receive: Any) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


if __name__ == "__main__":
    runtime.serve(Peer())
