"""Routes of the bulk operations: creating, acknowledging and resolving many alerts in one request."""

from typing import ClassVar
from uuid import UUID

from litestar import Controller, Response, post
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET

from alerts_service.alerts.bulk_authorizer import TenantAuthorizer
from alerts_service.alerts.bulk_create import create_from_list
from alerts_service.alerts.bulk_descriptions import ACKNOWLEDGE_DESCRIPTION, CREATE_DESCRIPTION, RESOLVE_DESCRIPTION
from alerts_service.alerts.bulk_structs import BulkCreate, BulkResults, BulkTransition, BulkTransitionResults
from alerts_service.alerts.bulk_transition import transition_alerts
from alerts_service.alerts.ndjson import create_from_stream
from alerts_service.alerts.request_parameters import BulkTenantId
from alerts_service.alerts.structs import Status
from alerts_service.errors import ValidationFailed
from alerts_service.web.idempotency import IF_MATCH_HEADER
from alerts_service.web.openapi import errors
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request

BULK_ERRORS = errors(401, 409, 413, 415, 422, 429, 500, 503)
RESULTS_DESCRIPTION = "One result for each item, in the order of the items"

# The value of `data` if the body is an NDJSON stream, which is read while the alerts are created, or if it is empty.
NO_LIST = BulkCreate(alerts=[])


class BulkController(Controller):
    """The bulk operations for the clients of tenants."""

    path = "/alerts/bulk"
    tags = ("bulk",)
    # False below /internal: any tenant is allowed, and the rate limits of tenants do not apply.
    checks_tenants: ClassVar[bool] = True

    @post(
        status_code=HTTP_200_OK,
        summary="Create alerts in bulk",
        description=CREATE_DESCRIPTION,
        response_description=RESULTS_DESCRIPTION,
        responses=BULK_ERRORS,
        opt={"accepts_ndjson": True},
    )
    async def create_alerts(self, request: Request, data: JSONBody[BulkCreate] = NO_LIST) -> Response[BulkResults]:
        """Create the alerts of a JSON list or of an NDJSON stream."""
        if not data.alerts and not request.is_ndjson:
            raise ValidationFailed("body: must not be empty")
        authorizer = TenantAuthorizer(request) if self.checks_tenants else None
        if authorizer is not None:
            authorizer.start_chunk()
        if request.is_ndjson:
            return await create_from_stream(request, authorizer)
        return await create_from_list(request, data.alerts, authorizer)

    @post(
        "/acknowledge",
        status_code=HTTP_200_OK,
        summary="Acknowledge alerts in bulk",
        description=ACKNOWLEDGE_DESCRIPTION,
        response_description=RESULTS_DESCRIPTION,
        responses=BULK_ERRORS,
    )
    async def acknowledge_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: BulkTenantId = None
    ) -> Response[BulkTransitionResults]:
        """Acknowledge the alerts that have one of the ids or match the filter."""
        return await self._transition(request, "acknowledged", data, tenant_id)

    @post(
        "/resolve",
        status_code=HTTP_200_OK,
        summary="Resolve alerts in bulk",
        description=RESOLVE_DESCRIPTION,
        response_description=RESULTS_DESCRIPTION,
        responses=BULK_ERRORS,
    )
    async def resolve_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: BulkTenantId = None
    ) -> Response[BulkTransitionResults]:
        """Resolve the alerts that have one of the ids or match the filter."""
        return await self._transition(request, "resolved", data, tenant_id)

    async def _transition(
        self, request: Request, to: Status, data: BulkTransition, tenant_id: UUID | None
    ) -> Response[BulkTransitionResults]:
        if request.header_values(IF_MATCH_HEADER):
            raise ValidationFailed("If-Match: not supported on bulk requests, only on requests for a single alert")
        named_tenant = tenant_id if data.filter is UNSET else data.filter.tenant_id
        if self.checks_tenants:
            rate_limit(request, named_tenant)
        return await transition_alerts(request, to, data, query_tenant=tenant_id, named_tenant=named_tenant)


class InternalBulkController(BulkController):
    """The same operations for services. Mount this controller behind the guard that checks the service key."""

    tags = ("internal",)
    checks_tenants = False

    def get_route_handlers(self) -> list[BaseRouteHandler]:
        """Name the operations: the operation ID `create_internal_alerts`, and "as a service" in the summary."""
        handlers = super().get_route_handlers()
        for handler in handlers:
            if isinstance(handler, HTTPRouteHandler):
                handler.operation_id = handler.handler_name.replace("_", "_internal_", 1)
                handler.summary = f"{handler.summary} as a service"
        return handlers
