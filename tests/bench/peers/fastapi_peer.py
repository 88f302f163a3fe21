"""A straightforward implementation with FastAPI, Pydantic and asyncpg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from asyncpg import Record
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from tests.bench.peers import queries, runtime

Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["triggered", "acknowledged", "resolved"]


class CreateAlert(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenant_id: UUID
    rule_name: Annotated[str, Field(min_length=1, max_length=255)]
    message: Annotated[str, Field(min_length=1, max_length=10_000)]
    severity: Severity = "medium"


class NoteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: Annotated[str | None, Field(max_length=10_000)] = None


class Alert(BaseModel):
    id: UUID
    tenant_id: UUID
    rule_name: str
    message: str
    severity: Severity
    status: Status
    created_at: datetime
    updated_at: datetime
    acknowledged_at: datetime | None
    acknowledgment_note: str | None
    resolved_at: datetime | None
    resolution_note: str | None


class Stats(BaseModel):
    total: int
    triggered: int
    acknowledged: int
    resolved: int


class Health(BaseModel):
    status: str
    service: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with await runtime.open_pool() as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


async def fetchrow(sql: str, *values: object) -> Record | None:
    record: Record | None = await app.state.pool.fetchrow(sql, *values)
    return record


@app.post("/alerts", status_code=201, response_model=Alert)
async def create_alert(alert: CreateAlert) -> Any:
    record = await fetchrow(queries.CREATE, alert.tenant_id, alert.rule_name, alert.message, alert.severity)
    return dict(record or {})


@app.get("/alerts", response_model=list[Alert])
async def list_alerts(tenant_id: UUID, status: Status | None = None, severity: Severity | None = None) -> Any:
    records = await app.state.pool.fetch(queries.LIST, tenant_id, status, severity)
    return [dict(record) for record in records]


@app.get("/alerts/{alert_id}", response_model=Alert)
async def get_alert(alert_id: UUID) -> Any:
    record = await fetchrow(queries.GET, alert_id)
    if record is None:
        raise HTTPException(404, "Alert not found")
    return dict(record)


@app.put("/alerts/{alert_id}/acknowledge", response_model=Alert)
async def acknowledge_alert(alert_id: UUID, body: NoteRequest) -> Any:
    return await transition(queries.ACKNOWLEDGE, alert_id, body.note)


@app.put("/alerts/{alert_id}/resolve", response_model=Alert)
async def resolve_alert(alert_id: UUID, body: NoteRequest) -> Any:
    return await transition(queries.RESOLVE, alert_id, body.note)


async def transition(sql: str, alert_id: UUID, note: str | None) -> dict[str, Any]:
    record = await fetchrow(sql, alert_id, note)
    if record is not None:
        return dict(record)
    if await fetchrow(queries.GET, alert_id) is None:
        raise HTTPException(404, "Alert not found")
    raise HTTPException(409, "Conflict")


@app.get("/stats/{tenant_id}", response_model=Stats)
async def get_stats(tenant_id: UUID) -> Any:
    return dict(await fetchrow(queries.STATS, tenant_id) or {})


@app.get("/health", response_model=Health)
async def get_health() -> Any:
    await fetchrow("SELECT 1")
    return {"status": "healthy", "service": "as-alerts-service"}


if __name__ == "__main__":
    runtime.serve(app)
