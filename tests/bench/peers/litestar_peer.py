"""A straightforward implementation with the libraries of the service: Litestar, msgspec and asyncpg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from asyncpg import Record
from litestar import Litestar, get, post, put
from litestar.exceptions import HTTPException, NotFoundException

from tests.bench.peers import queries, runtime
from tests.bench.peers.asgi_peer import HEALTHY, Alert, CreateAlert, NoteRequest, Severity, Stats, Status


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    async with await runtime.open_pool() as app.state.pool:
        yield


async def fetchrow(sql: str, *values: object) -> Record | None:
    record: Record | None = await app.state.pool.fetchrow(sql, *values)
    return record


@post("/alerts")
async def create_alert(data: CreateAlert) -> Alert:
    return Alert(*await fetchrow(queries.CREATE, data.tenant_id, data.rule_name, data.message, data.severity) or ())


@get("/alerts")
async def list_alerts(tenant_id: UUID, status: Status | None = None, severity: Severity | None = None) -> list[Alert]:
    return [Alert(*record) for record in await app.state.pool.fetch(queries.LIST, tenant_id, status, severity)]


@get("/alerts/{alert_id:uuid}")
async def get_alert(alert_id: UUID) -> Alert:
    return alert_or_404(await fetchrow(queries.GET, alert_id))


@put("/alerts/{alert_id:uuid}/acknowledge")
async def acknowledge_alert(alert_id: UUID, data: NoteRequest) -> Alert:
    return await transition(queries.ACKNOWLEDGE, alert_id, data.note)


@put("/alerts/{alert_id:uuid}/resolve")
async def resolve_alert(alert_id: UUID, data: NoteRequest) -> Alert:
    return await transition(queries.RESOLVE, alert_id, data.note)


async def transition(sql: str, alert_id: UUID, note: str | None) -> Alert:
    record = await fetchrow(sql, alert_id, note)
    if record is None and await fetchrow(queries.GET, alert_id) is not None:
        raise HTTPException("Conflict", status_code=409)
    return alert_or_404(record)


def alert_or_404(record: Record | None) -> Alert:
    if record is None:
        raise NotFoundException("Alert not found")
    return Alert(*record)


@get("/stats/{tenant_id:uuid}")
async def get_stats(tenant_id: UUID) -> Stats:
    return Stats(*await fetchrow(queries.STATS, tenant_id) or ())


@get("/health")
async def get_health() -> dict[str, str]:
    await fetchrow("SELECT 1")
    return HEALTHY


app = Litestar(
    [
        create_alert,
        list_alerts,
        get_alert,
        acknowledge_alert,
        resolve_alert,
        get_stats,
        get_health,
    ],
    lifespan=[lifespan],
    openapi_config=None,
)


if __name__ == "__main__":
    runtime.serve(app)
