"""Says what is wrong with a request, in words that its sender can act on: the field, and the reason."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from msgspec import inspect, structs

PLACE = re.compile(r"(?P<reason>.*) - at `\$\.?(?P<field>.*)`", re.DOTALL)
MISSING = re.compile(r"Missing required query parameter '(?P<name>\w+)'")
NUL_REASON = r"Expected `str` matching regex '^[^\\x00]*$'"
TIME_REASON = "Invalid RFC3339 encoded datetime"


def describe_body_error(error: Exception, type_: Any) -> str:
    """Name the field of a body that should have been of this type and what is wrong with it, as `field: reason`."""
    if isinstance(error, UnicodeDecodeError):
        return "body: not UTF-8"
    if str(error) == "Input data was truncated":
        return "body: JSON ends too early, or a text in it holds half a surrogate pair"
    found = PLACE.fullmatch(str(error))
    if not found or not found["field"]:
        return f"body: {found['reason'] if found else error}"
    return f"{found['field']}: " + _plainly(found["reason"], _field_types(type_).get(found["field"]))


def describe_parameter_errors(error: HTTPException, handler: BaseRouteHandler) -> str:
    """Name each parameter that Litestar refuses and what is wrong with it, which it keeps apart from its own detail."""
    if missing := MISSING.match(error.detail):
        return f"{missing['name']}: required"
    if not isinstance(error.extra, list) or not error.extra:
        return error.detail.partition(" for path ")[0]
    return "; ".join(_problems(error.extra, handler))


@lru_cache
def _field_types(type_: Any) -> Mapping[str, inspect.Type]:
    """Inspect the fields of a Struct. Cached: an inspection takes longer than decoding and inserting an alert."""
    return {field.encode_name: inspect.type_info(field.type) for field in structs.fields(type_)}


def _problems(problems: list[dict[str, Any]], handler: BaseRouteHandler) -> Iterator[str]:
    parameters = handler.parsed_fn_signature.parameters
    for problem in problems:
        name, parameter = problem.get("key", "request"), parameters.get(problem.get("key", ""))
        if name != "data":
            type_ = inspect.type_info(parameter.annotation) if parameter else None
            definition = parameter.kwarg_definition if parameter else None
            said = definition.name if isinstance(definition, QueryParameter) else None
            yield f"{said or name}: " + _plainly(problem["message"], type_)
        elif parameter and not parameter.has_default:  # one that may be left out is named when another part is wrong
            yield "body: must not be empty"


def _plainly(reason: str, type_: inspect.Type | None) -> str:
    if reason == NUL_REASON:
        return "must not hold the character NUL"
    if reason == TIME_REASON:
        return "must be a time such as 2026-01-05T09:30:00Z; in a query + is written %2B"
    if reason.startswith("Invalid enum value") and type_ is not None:
        return f"{reason}, must be one of {', '.join(_choices(type_))}"
    return reason


def _choices(type_: inspect.Type) -> Iterator[str]:
    if isinstance(type_, inspect.Metadata):
        yield from _choices(type_.type)
    if isinstance(type_, inspect.LiteralType):
        yield from map(str, type_.values)
    if isinstance(type_, inspect.UnionType):
        for member in type_.types:
            yield from _choices(member)
