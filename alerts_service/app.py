"""Where routers, guards, lifespan and error handlers meet."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router

from alerts_service import errors, openapi
from alerts_service.alerts.controller import AlertsController, InternalAlertsController
from alerts_service.alerts.structs import EXAMPLE
from alerts_service.database import Database
from alerts_service.exchange import Service
from alerts_service.guards import requires_service_key
from alerts_service.health.controller import HealthController
from alerts_service.requests import Request, check_query
from alerts_service.responses import JSONResponse
from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from alerts_service.startup import served_database
from alerts_service.stats.controller import StatsController

logger = logging.getLogger(__name__)


def create_app(settings: Settings, database: Database | None = None) -> Service:
    """Put the service together. Without a `database` it makes its own ready when it starts."""
    if settings.internal_service_key == PUBLISHED_SERVICE_KEY:
        logger.warning("INTERNAL_SERVICE_KEY is the published default: anybody may call the internal routes")

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        def serve(database: Database) -> None:
            app.state.database = database
            gc.collect()
            gc.freeze()  # what the start made stays, so the collector need not look through it again and again

        async with served_database(settings, serve):
            yield

    internal = Router(
        "/internal",
        route_handlers=[InternalAlertsController],
        guards=[requires_service_key(settings.internal_service_key)],
        security=openapi.SERVICE_KEY,
    )
    api = Router(
        "/",
        route_handlers=[AlertsController, StatsController, internal],
        before_request=check_query,
        response_class=JSONResponse,
    )
    health = Router("/", route_handlers=[HealthController], response_class=JSONResponse)
    app = Service(
        route_handlers=[api, health, openapi.swagger_ui_files(), openapi.openapi_json],
        debug=False,
        exception_handlers=errors.HANDLERS,
        lifespan=[lifespan] if database is None else [],
        logging_config=None,
        openapi_config=openapi.config(),
        request_class=Request,
    )
    app.state.database = database
    openapi.correct(app, EXAMPLE)
    return app
