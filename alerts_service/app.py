"""Where routers, guards, lifespan and error handlers meet."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig

from alerts_service import errors, openapi
from alerts_service.alerts.controller import AlertsController, InternalAlertsController
from alerts_service.alerts.structs import EXAMPLE
from alerts_service.database import Database
from alerts_service.exchange import Service
from alerts_service.guards import requires_service_key
from alerts_service.health.controller import HealthController
from alerts_service.rates import limited_requests, limits_service_key
from alerts_service.requests import Request, check_query
from alerts_service.responses import JSONResponse
from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from alerts_service.startup import ready_database
from alerts_service.stats.controller import StatsController

logger = logging.getLogger(__name__)

EXPOSED = ["Link", "Retry-After", "X-Request-ID"]


def create_app(settings: Settings, database: Database | None = None) -> Service:
    """Put the service together. Without a `database` it makes its own ready when it starts."""
    if settings.internal_service_key == PUBLISHED_SERVICE_KEY:
        logger.warning("INTERNAL_SERVICE_KEY is the published default: anybody may call the internal routes")

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with ready_database(settings) as app.state.database:
            gc.collect()
            gc.freeze()  # what the start made stays, so the collector need not look through it again and again
            yield

    guards = [requires_service_key(settings.internal_service_key)]
    if settings.rate_limit_key is not None:
        guards.append(limits_service_key(settings.rate_limit_key))
    internal = Router(
        "/internal",
        route_handlers=[InternalAlertsController],
        guards=guards,
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
        cors_config=_cors(settings.cors_origins),
        debug=False,
        exception_handlers=errors.HANDLERS,
        lifespan=[lifespan] if database is None else [],
        logging_config=None,
        openapi_config=openapi.config(),
        request_class=Request if settings.rate_limit_tenant is None else limited_requests(settings.rate_limit_tenant),
    )
    app.state.database = database
    openapi.correct(app, EXAMPLE)
    return app


def _cors(origins: str | None) -> CORSConfig | None:
    """Let pages of these origins call; of no other, unless they are the service's own."""
    if origins is None:
        return None
    return CORSConfig(
        allow_origins=origins.replace(" ", "").split(","), allow_methods=["GET", "POST", "PUT"], expose_headers=EXPOSED
    )
