"""What a query may say: parameters that the route knows, each once and in a form that means something."""

from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, get_args

import litestar
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from alerts_service.errors import ValidationFailed


async def check_query(request: litestar.Request[Any, Any, Any]) -> None:
    """Refuse a parameter that would be dropped in silence, and with it a tenant or a filter.

    That is one that the route does not know, one that comes again, and `null`, which Litestar takes for one left out.

    Raises:
        ValidationFailed: there is one.
    """
    if not request.scope["query_string"]:
        return
    known = query_parameters(request.scope["route_handler"])
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise ValidationFailed(f"{name}: not a parameter of this route")
        if name in seen:
            raise ValidationFailed(f"{name}: given more than once")
        if value.lower() == "null":
            raise ValidationFailed(f"{name}: must not be null")
        seen.add(name)


def check_zones(**moments: datetime | None) -> None:
    """Refuse a time that does not say in which zone it is, or that has no name in UTC.

    Raises:
        ValidationFailed: there is one.
    """
    for name, moment in moments.items():
        if moment is None:
            continue
        if moment.tzinfo is None:
            raise ValidationFailed(f"{name}: must end in Z or an offset from UTC")
        try:
            moment.astimezone(timezone.utc)
        except OverflowError:
            raise ValidationFailed(f"{name}: before the year 1 or after 9999 in UTC") from None


def choices(name: str, given: str | None, known: Any) -> str | None:
    """Put those of a Literal's texts that a parameter names in one order, each once; all of them are no choice.

    Raises:
        ValidationFailed: one is not known.
    """
    if given is None:
        return None
    values, possible = {*given.split(",")}, sorted(get_args(known))
    for value in sorted(values.difference(possible)):
        raise ValidationFailed(f"{name}: Invalid enum value '{value}', must be one of {', '.join(possible)}")
    return None if len(values) == len(possible) else ",".join(sorted(values))


@lru_cache
def query_parameters(handler: BaseRouteHandler) -> frozenset[str]:
    """Name the query parameters that a handler declares."""
    parameters = handler.parsed_fn_signature.parameters
    definitions = [(name, it.kwarg_definition) for name, it in parameters.items()]
    return frozenset(it.name or name for name, it in definitions if isinstance(it, QueryParameter))
