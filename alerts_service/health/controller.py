"""The health routes."""

import asyncio
import time
from importlib.metadata import version

import asyncpg
from litestar import Controller, get

from alerts_service.db.statement_runner import StatementRunner
from alerts_service.db.statements import Statement
from alerts_service.errors import DatabaseBusy, DatabaseUnreachable, Unhealthy
from alerts_service.health.structs import Details, Health, PoolUsage, Schema
from alerts_service.web.openapi import errors
from alerts_service.web.requests import Request

VERSION = version("as-alerts-service")
LOADED_AT = time.monotonic()
TIMEOUT_SECONDS = 1.0

HEALTHY = Health("healthy", "as-alerts-service")
GET_SCHEMA = Statement("health/get_schema", Schema, dedicated_connection=True)


class HealthController(Controller):
    """The health routes."""

    path = "/health"
    tags = ("health",)
    _schema_query: "asyncio.Task[Schema] | None" = None

    @get(
        summary="Check the service and its database",
        response_description="The service and its database are healthy",
        responses=errors(503),
    )
    async def get_health(self, request: Request) -> Health:
        """Return 200 if the database responds within one second, otherwise 503.

        The check uses a dedicated database connection, so it does not wait for other requests. Use this route for load
        balancers.
        """
        await self._shared_query(request.database)
        return HEALTHY

    @get("/live", summary="Check the process", response_description="The process is alive")
    async def get_live(self) -> Health:
        """Return 200 if the process responds, whatever the state of the database is.

        Use this route for process managers, which restart a process that does not respond.
        """
        return HEALTHY

    @get(
        "/details",
        summary="Get version, uptime, connection pool and schema version",
        response_description="The details",
        responses=errors(503),
    )
    async def get_details(self, request: Request) -> Details:
        """Return details for operators if the database responds within one second, otherwise 503.

        The uptime and the connection pool belong to the process that handles the request.
        """
        schema = await self._shared_query(request.database)
        connections = request.app.state.database.connections
        return Details(
            status=HEALTHY.status,
            service=HEALTHY.service,
            version=VERSION,
            uptime_seconds=round(time.monotonic() - LOADED_AT, 3),
            pool=PoolUsage(open=connections.open, idle=connections.idle, limit=connections.limit),
            schema=schema,
        )

    async def _shared_query(self, database: StatementRunner) -> Schema:
        """Return the schema version. Concurrent requests share one query."""
        if self._schema_query is None or self._schema_query.done():
            self._schema_query = asyncio.create_task(_query_schema(database))
            self._schema_query.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._schema_query)


async def _query_schema(database: StatementRunner) -> Schema:
    query = asyncio.create_task(database.one(GET_SCHEMA))
    await asyncio.wait({query}, timeout=TIMEOUT_SECONDS)
    if not query.done():
        # Canceling a statement on an unresponsive server may take longer than the timeout, so the task is not awaited.
        query.add_done_callback(_retrieve_exception)
        query.cancel()
        raise Unhealthy("the database does not answer")
    try:
        return query.result()
    except (DatabaseBusy, DatabaseUnreachable, asyncpg.PostgresError):
        raise Unhealthy("the database does not answer") from None


def _retrieve_exception(task: "asyncio.Task[Schema]") -> None:
    """Retrieve the exception of a task. Otherwise asyncio logs the exception if no request awaits the task."""
    if not task.cancelled():
        task.exception()
