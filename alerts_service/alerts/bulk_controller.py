"""Routes of the bulk operations: creating, acknowledging and resolving many alerts in one request."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from litestar import Controller, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition
from msgspec import UNSET

from alerts_service.alerts.bulk_authorizer import TenantAuthorizer
from alerts_service.alerts.bulk_create import create_from_list
from alerts_service.alerts.bulk_descriptions import ACKNOWLEDGE_DESCRIPTION, CREATE_DESCRIPTION, RESOLVE_DESCRIPTION
from alerts_service.alerts.bulk_structs import BulkCreate, BulkResults, BulkTransition, BulkTransitionResults
from alerts_service.alerts.bulk_transition import transition_alerts
from alerts_service.alerts.ndjson import create_from_stream
from alerts_service.alerts.parameters import OptionalTenantId
from alerts_service.alerts.structs import Status
from alerts_service.errors import ValidationFailed
from alerts_service.web.idempotency import IF_MATCH_HEADER
from alerts_service.web.openapi import errors
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request

BULK_ERRORS = errors(401, 409, 413, 415, 422, 429, 500, 503)
ONE_RESULT_EACH = "One result for each item, in the order of the items"

# The `data` of a request whose body is an NDJSON stream: the body is read while it is processed.
NDJSON_STREAM = BulkCreate(alerts=[])


def _operation_id(
    handler: HTTPRouteHandler, _: Method, path_components: Sequence[str | PathParameterDefinition]
) -> str:
    """Return the name of the handler: `create_alerts`, or `create_internal_alerts` for the route below `/internal`."""
    name = handler.handler_name
    return name.replace("_", "_internal_", 1) if path_components[0] == "internal" else name


class BulkController(Controller):
    """The bulk operations for the clients of tenants."""

    path = "/alerts/bulk"
    tags = ("bulk",)
    limits_tenants: ClassVar[bool] = True  # whether requests count against the rate limit of their tenant

    @post(
        status_code=HTTP_200_OK,
        operation_id=_operation_id,
        summary="Create alerts in bulk",
        description=CREATE_DESCRIPTION,
        response_description=ONE_RESULT_EACH,
        responses=BULK_ERRORS,
        opt={"accepts_ndjson": True},
    )
    async def create_alerts(
        self, request: Request, data: JSONBody[BulkCreate] = NDJSON_STREAM
    ) -> Response[BulkResults]:
        """Create the alerts of a JSON list or of an NDJSON stream."""
        if not data.alerts and not request.is_ndjson:
            raise ValidationFailed("body: must not be empty")
        authorizer = TenantAuthorizer(request) if self.limits_tenants else None
        if authorizer is not None:
            authorizer.start_chunk()
        if request.is_ndjson:
            return await create_from_stream(request, authorizer)
        return await create_from_list(request, data.alerts, authorizer)

    @post(
        "/acknowledge",
        status_code=HTTP_200_OK,
        operation_id=_operation_id,
        summary="Acknowledge alerts in bulk",
        description=ACKNOWLEDGE_DESCRIPTION,
        response_description=ONE_RESULT_EACH,
        responses=BULK_ERRORS,
    )
    async def acknowledge_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: OptionalTenantId = None
    ) -> Response[BulkTransitionResults]:
        """Acknowledge the alerts that have one of the ids or match the filter."""
        return await self._transition(request, "acknowledged", data, tenant_id)

    @post(
        "/resolve",
        status_code=HTTP_200_OK,
        operation_id=_operation_id,
        summary="Resolve alerts in bulk",
        description=RESOLVE_DESCRIPTION,
        response_description=ONE_RESULT_EACH,
        responses=BULK_ERRORS,
    )
    async def resolve_alerts(
        self, request: Request, data: JSONBody[BulkTransition], tenant_id: OptionalTenantId = None
    ) -> Response[BulkTransitionResults]:
        """Resolve the alerts that have one of the ids or match the filter."""
        return await self._transition(request, "resolved", data, tenant_id)

    async def _transition(
        self, request: Request, to: Status, data: BulkTransition, tenant_id: UUID | None
    ) -> Response[BulkTransitionResults]:
        if request.header_values(IF_MATCH_HEADER):
            raise ValidationFailed("If-Match: not supported on bulk requests, only on requests for a single alert")
        requested_tenant = tenant_id if data.filter is UNSET else data.filter.tenant_id
        if self.limits_tenants:
            rate_limit(request, requested_tenant)
        return await transition_alerts(
            request, to, data, query_tenant=tenant_id, authorized_tenant=request.authorize_tenant(requested_tenant)
        )


class InternalBulkController(BulkController):
    """The same operations for services. Mount it behind the guard that checks the service key."""

    tags = ("internal",)
    limits_tenants = False
