"""Response Structs of the statistics route."""

from typing import Annotated

from msgspec import Meta, Struct


class Stats(Struct, frozen=True):
    """The number of alerts of a tenant, in total and by status."""

    total: Annotated[int, Meta(description="All alerts of the tenant.", examples=[17])]
    triggered: Annotated[int, Meta(description="Alerts with the status `triggered`.", examples=[2])]
    acknowledged: Annotated[int, Meta(description="Alerts with the status `acknowledged`.", examples=[3])]
    resolved: Annotated[int, Meta(description="Alerts with the status `resolved`.", examples=[12])]


class CorrectedTenants(Struct, frozen=True):
    """The number of tenants whose counters were corrected."""

    tenants: int
