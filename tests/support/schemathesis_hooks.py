"""Hooks of Schemathesis: rules that the schema of a request cannot express. Loaded by its command line."""

from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: "schemathesis.Case[Any]", __: dict[str, Any]) -> None:
    """Drop generated cursors and entity tags from valid requests, as a schema cannot describe which of them exist.

    Idempotency keys become unique, and are dropped from NDJSON streams, which do not accept them.
    """
    if case.meta and case.meta.generation.mode.is_positive:
        case.query.pop("cursor", None)
        case.headers.pop("If-Match", None)
        key = case.headers.pop("Idempotency-Key", None)
        if key is not None and case.media_type != "application/x-ndjson":
            case.headers["Idempotency-Key"] = uuid4().hex


@schemathesis.hook
def filter_failure(_: schemathesis.HookContext, failure: Exception, case: object, response: Any) -> bool:  # noqa: ARG001 - the signature of a hook
    """Accept a bulk response of status 200 to an invalid item if the item has a result of status 422."""
    if not isinstance(failure, AcceptedNegativeData) or response.status_code != 200:
        return True
    body = response.json()
    results = body["results"] if isinstance(body, dict) and "results" in body else []
    return all(result["status"] != 422 for result in results)


@schemathesis.serializer("application/x-ndjson")
def serialize_ndjson(_: object, value: object) -> bytes:
    """Encode the generated text without changing it."""
    return str(value).encode("utf-8", "replace")
