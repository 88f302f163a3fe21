"""Texts of validation errors: `field: reason`. Several texts are separated by `; `.

msgspec and Litestar describe errors with Python types and regular expressions, which are translated here.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from msgspec import Struct, structs

MAX_QUOTED_CHARACTERS = 100

MISSING_OFFSET = "must have a UTC offset, such as Z or +01:00"
INVALID_TIME = "must be an RFC 3339 time such as 2026-01-05T09:30:00Z"
PLUS_IN_QUERY = " (in a query, write + as %2B)"

# The messages of msgspec 0.22.
PATH = re.compile(r"\.?(?P<path>[\w.\[\]]{0,200})`")
MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
TEXTS = {
    "Invalid UUID": "must be a UUID",
    "Invalid RFC3339 encoded datetime": INVALID_TIME,
    "Invalid epoch timestamp": INVALID_TIME,
    "Timestamp is out of range": INVALID_TIME,
    "Expected `datetime` with a timezone component": MISSING_OFFSET,
    "Expected `str` of length >= 1": "must not be empty",
    "Expected `array` of length >= 1": "must not be empty",
    r"Expected `str` matching regex '^[^\\x00]*$'": "must not contain the NUL character (U+0000)",
    "Input data was truncated": "not valid JSON (incomplete, or a string contains an unpaired surrogate)",
    "Number out of range": "number out of range",
}
TYPES = {
    "array": "an array",
    "bool": "a boolean",
    "datetime": "an RFC 3339 time",
    "float": "a number",
    "int": "a number",
    "null": "null",
    "object": "an object",
    "str": "a string",
    "uuid": "a UUID",
}
LENGTH_PHRASES = {"str": "be at most {} characters", "array": "have at most {} items"}

# The message of Litestar 2.
MISSING_PARAMETER = re.compile(r"Missing required query parameter '(?P<name>\w+)'")


def describe_body_error(error: Exception, type_: Any) -> str:
    """Describe why a request body could not be decoded into a type."""
    if isinstance(error, UnicodeDecodeError):
        return "body: not valid JSON (not encoded in UTF-8)"
    reason, path = _split_path(str(error))
    if missing := MISSING_FIELD.fullmatch(reason):
        return f"{path}.{missing['name']}: required".removeprefix(".")
    return f"{path or 'body'}: {_describe(reason, _annotation_at(type_, path))}"


def describe_parameter_errors(error: HTTPException, handler: BaseRouteHandler) -> str:
    """Describe each query and path parameter that Litestar rejects and lists in `error.extra`."""
    if missing := MISSING_PARAMETER.match(error.detail):
        return f"{missing['name']}: required"
    if not isinstance(error.extra, list) or not error.extra:
        return error.detail.partition(" for path ")[0]
    return "; ".join(_parameter_messages(error.extra, handler))


def describe_invalid_choice(value: str, choices: Sequence[str]) -> str:
    """Describe a value that is not one of the accepted values."""
    return f"{_quoted(value)} is not one of {', '.join(choices)}"


def describe_unknown_parameter(name: str) -> str:
    """Describe a query parameter that the route does not declare."""
    return f"query: unknown parameter {_quoted(name)}"


def _parameter_messages(problems: list[dict[str, Any]], handler: BaseRouteHandler) -> Iterator[str]:
    parameters = handler.parsed_fn_signature.parameters
    for problem in problems:
        name = problem.get("key", "request")
        parameter = parameters.get(name)
        if name != "data":
            definition = parameter.kwarg_definition if parameter else None
            alias = definition.name if isinstance(definition, QueryParameter) else None
            text = _describe(problem["message"], parameter.annotation if parameter else None)
            yield f"{alias or name}: {text}{PLUS_IN_QUERY if text == INVALID_TIME else ''}"
        # `Request.json` raises other errors of the body itself. Litestar also lists an optional body, which is valid.
        elif parameter and not parameter.has_default:
            yield "body: must not be empty"


def _split_path(message: str) -> tuple[str, str]:
    """Split a message such as "Invalid UUID - at `$.filter.tenant_id`" into the reason and the path of the field."""
    reason, _, path = message.rpartition(" - at `$")
    located = PATH.fullmatch(path)
    return (reason, located["path"]) if located and reason else (message, "")


def _describe(reason: str, annotation: Any) -> str:
    """Translate a message of msgspec about a value that should have the annotated type."""
    if text := TEXTS.get(reason.rstrip()):  # one message of msgspec ends with a blank
        return text
    for pattern, describe in PATTERNS:
        if match := pattern.fullmatch(reason):
            return describe(match, annotation)
    return reason


def _describe_wrong_type(match: re.Match[str], annotation: Any) -> str:
    expected, *or_null = match["expected"].split(" | ")
    choices = _choices(annotation)
    accepted = f"one of {', '.join(choices)}" if choices else TYPES.get(expected, expected)
    if or_null:
        accepted += " or null"
    return f"must be {accepted}, not {TYPES.get(match['actual'], match['actual'])}"


PATTERNS: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], Any], str]]] = [
    (re.compile("Expected `(?P<expected>.*)`, got `(?P<actual>.*)`"), _describe_wrong_type),
    (
        # Litestar may cut off the closing quote.
        re.compile(r"Invalid enum value (?P<quote>['\"])(?P<value>.*)", re.DOTALL),
        lambda match, annotation: describe_invalid_choice(
            match["value"].removesuffix(match["quote"]), _choices(annotation)
        ),
    ),
    (
        re.compile(r"Expected `(?P<type>str|array)` of length <= (?P<limit>\d+)"),
        lambda match, _: f"must {LENGTH_PHRASES[match['type']].format(match['limit'])}",
    ),
    (
        # `_split_path` removes the closing backtick if the name contains the text of a path, such as " - at `$".
        re.compile("Object contains unknown field `(?P<name>.*)", re.DOTALL),
        lambda match, _: f"unknown field {_quoted(match['name'].removesuffix('`'))}",
    ),
    (
        re.compile(r"JSON is malformed: (?P<problem>.*) \((?P<position>byte \d+)\)"),
        lambda match, _: f"not valid JSON ({match['problem']} at {match['position']})",
    ),
    (re.compile("Expected `str` matching regex .*", re.DOTALL), lambda *_: "not in the accepted format"),
]


def _annotation_at(type_: Any, path: str) -> Any:
    """Return the annotation of the field at a path in the body, such as `filter.severity`, or None."""
    annotation = type_
    for name in filter(None, path.split(".")):
        annotation = _field_annotations(annotation).get(name)
    return annotation


@lru_cache
def _field_annotations(annotation: Any) -> Mapping[str, Any]:
    """Return the annotations of the fields of the Structs in an annotation, by the JSON names of the fields."""
    return {
        field.encode_name: field.type
        for each in _flatten(annotation)
        if isinstance(each, type) and issubclass(each, Struct)
        for field in structs.fields(each)
    }


def _choices(annotation: Any) -> Sequence[str]:
    return next((get_args(each) for each in _flatten(annotation) if get_origin(each) is Literal), ())


def _flatten(annotation: Any) -> Iterator[Any]:
    """Yield an annotation, and the annotations inside its Annotated types and unions."""
    yield annotation
    for inner in get_args(annotation):
        yield from _flatten(inner)


def _quoted(value: str) -> str:
    return f'"{value[:MAX_QUOTED_CHARACTERS]}…"' if len(value) > MAX_QUOTED_CHARACTERS else f'"{value}"'
