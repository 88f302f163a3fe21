"""Is the service up, and is its database?"""

import asyncio
import time
from importlib.metadata import version
from typing import Literal

import asyncpg
from litestar import Controller, get
from msgspec import Struct

from alerts_service.db.database import Statement
from alerts_service.db.statement_runner import StatementRunner
from alerts_service.errors import DatabaseBusy, DatabaseUnreachable, Unhealthy
from alerts_service.web.openapi import errors
from alerts_service.web.requests import Request

VERSION = version("as-alerts-service")
STARTED = time.monotonic()
PATIENCE_SECONDS = 1.0


class Health(Struct, frozen=True):
    """All is well."""

    status: Literal["healthy"]
    service: Literal["as-alerts-service"]


class Schema(Struct, frozen=True):
    """How far the migrations have brought the database."""

    version: int


class Pool(Struct, frozen=True):
    """The connections to the database: open, idle among them, and at most."""

    open: int
    idle: int
    limit: int


class Details(Health, frozen=True):
    """What somebody who looks after the service wants to know."""

    version: str
    uptime_seconds: float
    pool: Pool
    schema: Schema


HEALTHY = Health("healthy", "as-alerts-service")
GET_SCHEMA = Statement("health/get_schema", Schema, dedicated_connection=True)


class HealthController(Controller):
    """The health routes."""

    path = "/health"
    tags = ("health",)
    _question: "asyncio.Task[Schema] | None" = None

    @get(
        summary="Is the service healthy?",
        response_description="The service and its database answer",
        responses=errors(503),
    )
    async def get_health(self, request: Request) -> Health:
        """Asks the database, and gives up after a second."""
        await self._ask(request.database)
        return HEALTHY

    @get("/live", summary="Is the process alive?", response_description="The process answers")
    async def get_live(self) -> Health:
        """The process alone, for whoever restarts it; the database is not asked."""
        return HEALTHY

    @get(
        "/details",
        summary="Show version, uptime, pool and schema",
        response_description="The details",
        responses=errors(503),
    )
    async def get_details(self, request: Request) -> Details:
        """Asks the database, and gives up after a second."""
        schema = await self._ask(request.database)
        connections = request.app.state.database.connections
        return Details(
            status=HEALTHY.status,
            service=HEALTHY.service,
            version=VERSION,
            uptime_seconds=round(time.monotonic() - STARTED, 3),
            pool=Pool(open=connections.open, idle=connections.idle, limit=connections.limit),
            schema=schema,
        )

    async def _ask(self, database: StatementRunner) -> Schema:
        """Whoever asks while the database is asked has the same answer."""
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(_ask(database))
            self._question.add_done_callback(_heard)
        return await asyncio.shield(self._question)


async def _ask(database: StatementRunner) -> Schema:
    asked = asyncio.create_task(database.one(GET_SCHEMA))
    await asyncio.wait({asked}, timeout=PATIENCE_SECONDS)
    if not asked.done():
        # Taking back what a silent database was asked may take longer still: nobody waits for that.
        asked.add_done_callback(_heard)
        asked.cancel()
        raise Unhealthy("the database does not answer")
    try:
        return asked.result()
    except (DatabaseBusy, DatabaseUnreachable, asyncpg.PostgresError):
        raise Unhealthy("the database does not answer") from None


def _heard(asked: "asyncio.Task[Schema]") -> None:
    """Leave no failure behind that nobody waited for."""
    if not asked.cancelled():
        asked.exception()
