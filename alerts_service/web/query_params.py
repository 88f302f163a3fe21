"""Validation of query parameters beyond their types: names, repetition, null, time zones and lists of choices."""

from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, get_args

import litestar
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from alerts_service.errors import ValidationFailed
from alerts_service.web.validation_messages import MISSING_OFFSET, describe_invalid_choice, describe_unknown_parameter


async def check_query(request: litestar.Request[Any, Any, Any]) -> None:
    """Reject unknown and repeated query parameters, and the value `null` of a parameter that is not text.

    Litestar ignores an unknown parameter and uses one value of a repeated parameter. msgspec decodes `null` as None
    unless the parameter is text. Without this check a request would silently lose its tenant or a filter.

    Raises:
        ValidationFailed: A parameter is unknown, repeated or null.
    """
    if not request.scope["query_string"]:
        return
    text_by_name = _query_parameters(request.scope["route_handler"])
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in text_by_name:
            raise ValidationFailed(describe_unknown_parameter(name))
        if name in seen:
            raise ValidationFailed(f"{name}: must be given only once")
        if value.lower() == "null" and not text_by_name[name]:
            raise ValidationFailed(f"{name}: must not be null")
        seen.add(name)


def require_time_zones(**times: datetime | None) -> None:
    """Check that each time has a UTC offset and is a valid time in UTC.

    Raises:
        ValidationFailed: A time has no offset, or is out of range in UTC.
    """
    for name, time in times.items():
        if time is None:
            continue
        if time.tzinfo is None:
            raise ValidationFailed(f"{name}: {MISSING_OFFSET}")
        try:
            time.astimezone(timezone.utc)
        except OverflowError:
            raise ValidationFailed(f"{name}: must be between the years 1 and 9999 in UTC") from None


def parse_choices(name: str, value: str | None, literal: Any) -> str | None:
    """Parse a comma-separated list of values of a Literal type.

    Returns:
        The distinct values, sorted and comma-separated, or None if the parameter is missing or lists all values.

    Raises:
        ValidationFailed: A value is not a value of the Literal type.
    """
    if value is None:
        return None
    values, accepted = set(value.split(",")), get_args(literal)
    for invalid in sorted(values.difference(accepted)):
        raise ValidationFailed(f"{name}: {describe_invalid_choice(invalid, accepted)}")
    return None if len(values) == len(accepted) else ",".join(sorted(values))


@lru_cache
def _query_parameters(handler: BaseRouteHandler) -> Mapping[str, bool]:
    """Return the names of the query parameters of a handler, and whether each parameter is text."""
    return {
        parameter.kwarg_definition.name or name: str in (parameter.annotation, *get_args(parameter.annotation))
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }
