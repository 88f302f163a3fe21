"""Where routers, guards, lifespan and error handlers meet."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig

from alerts_service import memory
from alerts_service.alerts.bulk_controller import BulkController, InternalBulkController
from alerts_service.alerts.controller import AlertsController, InternalAlertsController
from alerts_service.alerts.structs import EXAMPLE
from alerts_service.bootstrap import database_lifespan
from alerts_service.db.database import Database
from alerts_service.db.fair_semaphore import FairSemaphore
from alerts_service.db.unavailable_database import UnavailableDatabase
from alerts_service.health.controller import HealthController
from alerts_service.history.controller import HistoryController
from alerts_service.history.structs import EXAMPLE as EVENT_EXAMPLE
from alerts_service.retention.job import pruning
from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from alerts_service.stats.controller import StatsController
from alerts_service.web import error_handlers, openapi, swagger_ui
from alerts_service.web.cross_site import CrossSiteProtection
from alerts_service.web.guards import requires_service_key, requires_tenant_token
from alerts_service.web.idempotency import REPLAYED
from alerts_service.web.middleware import Service
from alerts_service.web.query_params import check_query
from alerts_service.web.rate_limits import RateLimit, limits_service_key
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse, SendBuffer

logger = logging.getLogger(__name__)

EXPOSED = ["ETag", REPLAYED, "Link", "Retry-After", "X-Request-ID"]


def create_app(settings: Settings, database: Database | None = None) -> Service:
    """Put the service together. Without a `database` it makes its own ready when it starts."""
    if PUBLISHED_SERVICE_KEY in settings.service_keys:
        logger.warning("INTERNAL_SERVICE_KEY holds the published default: anybody may call the internal routes")

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        def serve(database: Database | UnavailableDatabase) -> None:
            app.state.database = database
            memory.tune_garbage_collector()
            memory.return_large_blocks()

        async with (
            database_lifespan(settings, serve),
            pruning(settings.retention_days, lambda: app.state.database),
        ):
            yield

    verify = _verifier(settings)
    public = Router(
        "/",
        route_handlers=[AlertsController, BulkController, HistoryController, StatsController],
        guards=[requires_tenant_token(verify)] if verify else [],
        security=openapi.TENANT_TOKEN if verify else None,
    )
    guards = [requires_service_key(settings.service_keys)]
    if settings.rate_limit_key is not None:
        guards.append(limits_service_key(settings.rate_limit_key))
    internal = Router(
        "/internal",
        route_handlers=[InternalAlertsController, InternalBulkController],
        guards=guards,
        security=openapi.SERVICE_KEY,
    )
    api = Router(
        "/",
        route_handlers=[public, internal],
        before_request=check_query,
        response_class=JSONResponse,
    )
    health = Router("/", route_handlers=[HealthController], response_class=JSONResponse)
    app = Service(
        protection=CrossSiteProtection(settings.cors_origins, settings.allowed_hosts),
        route_handlers=[api, health, swagger_ui.files(), openapi.openapi_json],
        cors_config=_cors(settings.cors_origins),
        debug=False,
        exception_handlers=error_handlers.HANDLERS,
        lifespan=[lifespan] if database is None else [],
        logging_config=None,
        openapi_config=openapi.config(tokens=verify is not None),
        request_class=Request,
    )
    app.state.database = database
    app.state.bulk_decoding = FairSemaphore(max_in_flight=1, queue_timeout=settings.pool_timeout)
    app.state.tenant_rate_limit = (
        RateLimit("tenant", settings.rate_limit_tenant) if settings.rate_limit_tenant else None
    )
    app.state.send_buffer = SendBuffer(settings.send_buffer_mib * 1024 * 1024)
    openapi.correct(app, EXAMPLE, EVENT_EXAMPLE)
    return app


def _cors(origins: str | None) -> CORSConfig | None:
    """Let pages of these origins send requests and read the responses; `CrossSiteProtection` rejects other pages."""
    if origins is None:
        return None
    return CORSConfig(
        allow_origins=origins.replace(" ", "").split(","), allow_methods=["GET", "POST", "PUT"], expose_headers=EXPOSED
    )


def _verifier(settings: Settings) -> Callable[[str], tuple[UUID, str, float]] | None:
    if settings.tenant_jwt_secret is None and settings.tenant_jwt_public_key is None:
        logger.info("No tenant is asked for a token")
        return None
    from alerts_service.web import tokens  # noqa: PLC0415 - cryptography is slow to import, and used for tokens only

    return tokens.verifier(settings.tenant_jwt_secret, settings.tenant_jwt_public_key)
