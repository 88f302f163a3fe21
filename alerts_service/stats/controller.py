"""The statistics route, and the statement that corrects its counters."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, get
from litestar.params import PathParameter

from alerts_service.db.statements import Statement
from alerts_service.stats.structs import CorrectedTenants, Stats
from alerts_service.web.openapi import errors
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request

GET_STATS = Statement("stats/get", Stats)
RECOUNT = Statement("stats/recount", CorrectedTenants)

TenantId = Annotated[
    UUID,
    PathParameter(
        description="The tenant whose alerts to count.",
        schema_extra={"examples": ["123e4567-e89b-12d3-a456-426614174000"]},
    ),
]


class StatsController(Controller):
    """The statistics route."""

    path = "/stats"
    tags = ("stats",)

    @get(
        "/{tenant_id:str}",
        summary="Count the alerts of a tenant",
        response_description="The number of alerts, in total and by status",
        responses=errors(401, 422, 429, 500, 503),
    )
    async def get_stats(self, request: Request, tenant_id: TenantId) -> Stats:
        """Return the number of alerts of a tenant, in total and by status.

        All numbers are 0 for a tenant without alerts and for an unknown tenant. Alerts that retention has deleted are
        not counted.
        """
        rate_limit(request, tenant_id)
        return await request.database.one(GET_STATS, tenant_id=request.authorize_tenant(tenant_id))
