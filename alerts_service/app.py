"""The application: its routes, guards, lifespan, error handlers and state."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig

from alerts_service import memory
from alerts_service.alerts.bulk_controller import BulkController, InternalBulkController
from alerts_service.alerts.controller import AlertsController, InternalAlertsController
from alerts_service.alerts.list_controller import AlertListController
from alerts_service.alerts.structs import ALERT_EXAMPLE
from alerts_service.bootstrap import database_lifespan
from alerts_service.db.database import Database
from alerts_service.db.fair_semaphore import FairSemaphore
from alerts_service.db.unavailable_database import UnavailableDatabase
from alerts_service.health.controller import HealthController
from alerts_service.history.controller import HistoryController
from alerts_service.history.structs import EVENT_EXAMPLE
from alerts_service.retention.job import pruning
from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings
from alerts_service.stats.controller import StatsController
from alerts_service.web import error_handlers, openapi, swagger_ui
from alerts_service.web.cross_site import CrossSiteProtection, split_setting
from alerts_service.web.guards import VerifyToken, requires_service_key, requires_tenant_token
from alerts_service.web.idempotency import REPLAYED
from alerts_service.web.middleware import AlertsApp
from alerts_service.web.query_params import check_query
from alerts_service.web.rate_limits import RateLimit, limits_service_key
from alerts_service.web.request_body import BodyBuffer
from alerts_service.web.requests import Request
from alerts_service.web.responses import JSONResponse
from alerts_service.web.send_buffer import SendBuffer

logger = logging.getLogger(__name__)

EXPOSED_HEADERS = ["ETag", REPLAYED, "Link", "Retry-After", "X-Request-ID"]


def create_app(settings: Settings, database: Database | None = None) -> AlertsApp:
    """Create the application. If no `database` is passed, the application opens the configured database at startup."""
    verify_token = _create_token_verifier(settings)
    app = AlertsApp(
        protection=CrossSiteProtection(settings.cors_origins, settings.allowed_hosts),
        route_handlers=[
            Router(
                "/",
                route_handlers=[_tenant_routes(verify_token), _internal_routes(settings)],
                before_request=check_query,
                response_class=JSONResponse,
            ),
            Router("/", route_handlers=[HealthController], response_class=JSONResponse),
            swagger_ui.files(),
            openapi.openapi_json,
        ],
        cors_config=_cors_config(settings.cors_origins),
        debug=False,
        exception_handlers=error_handlers.HANDLERS,
        lifespan=[_lifespan(settings)] if database is None else [],
        logging_config=None,
        openapi_config=openapi.config(tokens=verify_token is not None),
        request_class=Request,
    )
    # The database of all requests; set by the lifespan if None.
    app.state.database = database
    # Bulk bodies are decoded one at a time, so that other requests wait for one body at most.
    app.state.bulk_decoding = FairSemaphore(max_in_flight=1, queue_timeout=settings.pool_timeout)
    # The requests of each tenant in a period; None if they are not limited.
    app.state.tenant_rate_limit = (
        RateLimit("tenant", settings.rate_limit_tenant) if settings.rate_limit_tenant else None
    )
    # How many seconds a client may take to send the body of a request.
    app.state.request_timeout = settings.request_timeout
    # Limits the memory for request bodies.
    app.state.body_buffer = BodyBuffer()
    # Limits the memory for responses that clients have not read yet.
    app.state.send_buffer = SendBuffer(settings.send_buffer_mib * 1024 * 1024)
    openapi.complete_document(app, ALERT_EXAMPLE, EVENT_EXAMPLE)
    return app


def _tenant_routes(verify_token: VerifyToken | None) -> Router:
    return Router(
        "/",
        route_handlers=[AlertsController, AlertListController, BulkController, HistoryController, StatsController],
        guards=[requires_tenant_token(verify_token)] if verify_token else [],
        security=openapi.TENANT_TOKEN if verify_token else None,
    )


def _internal_routes(settings: Settings) -> Router:
    if PUBLISHED_SERVICE_KEY in settings.service_keys:
        logger.warning("INTERNAL_SERVICE_KEY contains the default service key: any client can call the internal routes")
    guards = [requires_service_key(settings.service_keys)]
    if settings.rate_limit_key is not None:
        guards.append(limits_service_key(settings.rate_limit_key))
    return Router(
        "/internal",
        route_handlers=[InternalAlertsController, InternalBulkController],
        guards=guards,
        security=openapi.SERVICE_KEY,
    )


def _lifespan(settings: Settings) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        def set_database(database: Database | UnavailableDatabase) -> None:
            app.state.database = database
            memory.tune_garbage_collector()
            memory.return_large_blocks()

        async with (
            database_lifespan(settings, set_database),
            pruning(settings.retention_days, lambda: app.state.database),
        ):
            yield

    return lifespan


def _cors_config(origins: str | None) -> CORSConfig | None:
    """Allow web pages of these origins to send requests and to read the responses.

    `CrossSiteProtection` rejects the requests of other web pages.
    """
    if origins is None:
        return None
    return CORSConfig(
        allow_origins=split_setting(origins),
        allow_methods=["GET", "POST", "PUT"],
        expose_headers=EXPOSED_HEADERS,
    )


def _create_token_verifier(settings: Settings) -> VerifyToken | None:
    if settings.tenant_jwt_secret is None and settings.tenant_jwt_public_key is None:
        logger.info("tenant tokens are disabled: neither TENANT_JWT_SECRET nor TENANT_JWT_PUBLIC_KEY is set")
        return None
    from alerts_service.web import tokens  # noqa: PLC0415 - cryptography is slow to import, and is needed for tokens only

    return tokens.verifier(settings.tenant_jwt_secret, settings.tenant_jwt_public_key)
