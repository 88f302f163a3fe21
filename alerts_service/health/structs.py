"""Response Structs of the health routes."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Health(Struct, frozen=True):
    """The response of a healthy service."""

    status: Annotated[
        Literal["healthy"],
        Meta(description="Always `healthy`. An unhealthy service returns an error."),
    ]
    service: Annotated[Literal["as-alerts-service"], Meta(description="The name of this service.")]


class Schema(Struct, frozen=True):
    """The state of the database schema."""

    version: Annotated[int, Meta(description="The number of the latest applied migration.", examples=[10])]


class PoolUsage(Struct, frozen=True):
    """The database connections of this process, without the dedicated health connection."""

    open: Annotated[int, Meta(description="The number of open connections.", examples=[5])]
    idle: Annotated[int, Meta(description="The number of open connections that are not in use.", examples=[4])]
    limit: Annotated[int, Meta(description="The maximum number of connections.", examples=[5])]


class Details(Health, frozen=True):
    """The response of a healthy service, with details for operators."""

    version: Annotated[str, Meta(description="The version of this service.", examples=["1.0.0"])]
    uptime_seconds: Annotated[float, Meta(description="Seconds since the process started.", examples=[86400.125])]
    pool: Annotated[PoolUsage, Meta(description="The connection pool of the process that handled the request.")]
    schema: Annotated[Schema, Meta(description="The state of the database schema.")]
