"""How many alerts a tenant has."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, get
from litestar.params import PathParameter
from msgspec import Struct

from alerts_service.db.database import Statement
from alerts_service.web.openapi import errors
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request


class Stats(Struct, frozen=True):
    """A tenant's alerts, in all and by status."""

    total: int
    triggered: int
    acknowledged: int
    resolved: int


class Recount(Struct, frozen=True):
    """How many tenants had counts that were corrected."""

    tenants: int


GET = Statement("stats/get", Stats)
RECOUNT = Statement("stats/recount", Recount)


class StatsController(Controller):
    """The statistics route."""

    path = "/stats"
    tags = ("stats",)

    @get(
        "/{tenant_id:str}",
        summary="Count a tenant's alerts",
        response_description="The counts",
        responses=errors(401, 422, 429, 500, 503),
    )
    async def get_stats(
        self,
        request: Request,
        tenant_id: Annotated[UUID, PathParameter(description="The tenant whose alerts to count.")],
    ) -> Stats:
        """A tenant that has no alerts, known or not, counts zero."""
        rate_limit(request, tenant_id)
        return await request.database.one(GET, tenant_id=request.authorize_tenant(tenant_id))
