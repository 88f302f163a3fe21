"""Random requests: each response conforms to the OpenAPI document, and none is a 500.

An ordinary run always sends the same few requests. `FUZZ_EXAMPLES=100000 pytest tests/api/test_fuzz.py` sends more, and
others each time.
"""

import json
import os
from collections.abc import Iterator
from datetime import datetime
from random import Random
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts_service.alerts.bulk_structs import BulkResults, BulkTransitionResults, LineResult
from alerts_service.alerts.structs import Alert
from alerts_service.errors import ErrorResponse
from alerts_service.history.structs import Event
from alerts_service.stats.structs import Stats
from alerts_service.web import pagination as cursor
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY
from tests.support.asgi import Input, answer

# Requests near the limits are long, and Hypothesis warns that it cannot print them.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Generating overly large repr")]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
MUTATIONS = 30 if EXAMPLES else 5  # of each generated request
TENANTS = [UUID(int=number + (7 << 64)) for number in range(3)]
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH")
RESPONSE_TYPES: dict[tuple[str, str], Any] = {
    ("POST", "/alerts"): Alert,
    ("POST", "/internal/alerts"): Alert,
    ("POST", "/alerts/bulk"): BulkResults,
    ("POST", "/alerts/bulk/acknowledge"): BulkTransitionResults,
    ("POST", "/alerts/bulk/resolve"): BulkTransitionResults,
    ("POST", "/internal/alerts/bulk"): BulkResults,
    ("POST", "/internal/alerts/bulk/acknowledge"): BulkTransitionResults,
    ("POST", "/internal/alerts/bulk/resolve"): BulkTransitionResults,
    ("GET", "/alerts"): list[Alert],
    ("GET", "/alerts/{alert_id}"): Alert,
    ("PUT", "/alerts/{alert_id}/acknowledge"): Alert,
    ("PUT", "/alerts/{alert_id}/resolve"): Alert,
    ("GET", "/alerts/{alert_id}/history"): list[Event],
    ("GET", "/history"): list[Event],
    ("GET", "/stats/{tenant_id}"): Stats,
}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.text("\0\ud800é💥", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
tenants = st.sampled_from(TENANTS).map(str)
severities = st.sampled_from(["low", "medium", "high", "critical"])
severity_lists = st.lists(severities, max_size=3).map(",".join)
searches = st.text("ab \"-!or_'&|\\é💥", max_size=9)
dedup_keys = st.sampled_from(["k", "K", "é"]) | st.text(max_size=300)
long_texts = st.integers(1, 12_000).map("x".__mul__)
alert_bodies = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": tenants | values,
        "rule_name": st.text(max_size=300) | values,
        "message": st.text() | long_texts | values,
        "severity": severities | values,
        "dedup_key": dedup_keys | values,
        "status": values,
    },
)
valid_alert_bodies = st.fixed_dictionaries(
    {"tenant_id": tenants, "rule_name": st.text(min_size=1), "message": long_texts},
    optional={"severity": severities, "dedup_key": dedup_keys},
)
note_bodies = st.fixed_dictionaries({}, optional={"note": st.text() | long_texts | values, "x": values})


datetimes = st.datetimes(timezones=st.timezones())
bulk_bodies = st.fixed_dictionaries(
    {"alerts": st.lists(valid_alert_bodies | alert_bodies | values, min_size=1, max_size=5)}
)
filters = st.fixed_dictionaries(
    {"tenant_id": tenants},
    optional={
        "status": st.sampled_from(["triggered", "acknowledged", "resolved"]) | values,
        "severity": severities,
        "rule_name": st.text() | values,
        "created_after": datetimes.map(datetime.isoformat) | values,
        "created_before": datetimes.map(datetime.isoformat) | st.datetimes().map(datetime.isoformat),
    },
)
transition_bodies = st.fixed_dictionaries({"dry_run": st.booleans()}, optional={"note": st.text() | values}).flatmap(
    lambda body: (
        st.lists(st.uuids().map(str) | values, min_size=1, max_size=5).map(lambda ids: {**body, "ids": ids})
        | filters.map(lambda filter_: {**body, "filter": filter_})
    )
)
ndjson_bodies = st.lists(valid_alert_bodies | alert_bodies | values, max_size=5).map(
    lambda items: b"\n".join(json.dumps(item).encode() for item in items)
)
bodies = (alert_bodies | valid_alert_bodies | note_bodies | bulk_bodies | transition_bodies | values).map(
    lambda value: json.dumps(value).encode()
) | ndjson_bodies
cursors = (
    st.builds(cursor.encode_alert_cursor, datetimes, st.uuids())
    | st.builds(cursor.encode_event_cursor, datetimes, st.uuids(), st.integers(-(2**31), 2**31 - 1))
    | st.text(max_size=40)
)
times = datetimes.map(datetime.isoformat) | st.datetimes().map(datetime.isoformat)
PARAMETER_NAMES = [
    *("tenant_id", "status", "severity", "rule_name", "created_after", "created_before", "q"),
    *("type", "since", "until", "cursor", "limit"),
]
parameter_names = st.sampled_from(PARAMETER_NAMES) | st.text(max_size=5)
status_lists = st.sampled_from(["triggered", "acknowledged,resolved", "resolved,", "null", ""])
parameters = st.tuples(
    parameter_names, tenants | status_lists | severity_lists | cursors | times | searches | st.text(max_size=9)
)
valid_queries = st.tuples(
    tenants,
    st.lists(
        st.tuples(st.sampled_from(PARAMETER_NAMES[1:]), status_lists | severity_lists | cursors | times | searches),
        max_size=3,
    ),
).map(lambda query: [("tenant_id", query[0]), *query[1]])
queries = (valid_queries | st.lists(parameters, max_size=4)).map(
    lambda pairs: (
        "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs).encode()
        if all(part.isprintable() for pair in pairs for part in pair)
        else b"a=%FF%00"
    )
)
segments = (
    st.sampled_from(["{}"])
    | st.just("{}")
    | st.just("{}")
    | tenants
    | st.uuids().map(str)
    | st.text(max_size=12).map(lambda text: quote(text, errors="replace"))
)
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"x-request-id",
                b"x-service-key",
                b"if-match",
                b"if-none-match",
                b"idempotency-key",
                b"content-type",
                b"accept",
                b"cookie",
                b"x-y",
            ]
        ),
        st.sampled_from([SERVICE_KEY.encode(), b"application/json", b"*/*", b"*"]) | st.binary(max_size=12),
    ),
    max_size=3,
)
SERVICE_KEY_HEADER = (b"x-service-key", SERVICE_KEY.encode())
NDJSON_HEADER = (b"content-type", b"application/x-ndjson")
templates = st.sampled_from(
    [
        *(template for _, template in RESPONSE_TYPES),
        "/health",
        "/health/live",
        "/health/details",
        "/openapi.json",
        "/unknown",
    ]
)


VALID_CREATE = Input(
    "POST", b"/alerts", b"", [], b'{"tenant_id":"%s","rule_name":"r","message":"m"}' % str(TENANTS[0]).encode()
)


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    template = draw(templates)
    methods = [method for method, path in RESPONSE_TYPES if path == template] or ["GET"]
    return Input(
        draw(st.sampled_from(methods) | st.sampled_from(METHODS)),
        template.replace("{alert_id}", draw(segments)).replace("{tenant_id}", draw(segments)).encode(),
        draw(st.just(b"") | queries),
        draw(st.just([SERVICE_KEY_HEADER]) | st.just([SERVICE_KEY_HEADER, NDJSON_HEADER]) | headers),
        draw(bodies | st.just(b"")),
    )


def mutate(request: Input, random: Random) -> Input:
    """Remove, double or replace bytes in the path, the query or the body of a request."""
    part, safe = random.choice([("path", "/%{}"), ("query", "=&%"), ("body", None)])
    text: bytes = getattr(request, part)
    start, end = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
    replacement = random.choice([b"", random.randbytes(random.randint(1, 4)), text[start:end] * 2])
    text = text[:start] + replacement + text[end:]
    mutated: dict[str, Any] = {part: text if safe is None else quote_from_bytes(text, safe).encode()}
    return request._replace(**mutated)


def template_of(path: bytes) -> str:
    """Return the path template of the route that serves a path, without empty segments and percent-encoding."""
    parts = [part for part in unquote(path.decode("ascii")).split("/") if part]
    if len(parts) in {2, 3} and parts[0] in {"alerts", "stats"} and parts[:2] != ["alerts", "bulk"]:
        parts[1] = {"alerts": "{alert_id}", "stats": "{tenant_id}"}[parts[0]]
    return "/" + "/".join(parts)


def assert_documented(
    document: dict[str, Any], request: Input, status: int, headers: dict[bytes, bytes], body: bytes
) -> None:
    template = template_of(request.path)
    assert status != 500, body
    assert b"x-request-id" in headers
    if request.method == "HEAD" or status in {204, 304}:
        assert body == b""
        return
    if status >= 400:
        msgspec.json.decode(body, type=ErrorResponse, strict=True)
    elif headers.get(b"content-type") == b"application/x-ndjson":
        results = msgspec.json.Decoder(LineResult).decode_lines(body)
        assert len(results) == len(request.body.removesuffix(b"\n").split(b"\n")) if request.body else not results
    elif response_type := RESPONSE_TYPES.get((request.method, template)):
        msgspec.json.decode(body, type=response_type, strict=True)
    operation = document["paths"].get(template, {}).get(request.method.lower())
    if operation and status not in {404, 405}:
        assert str(int(status)) in operation["responses"]


@pytest.fixture(scope="module")
async def document(app: AlertsApp) -> dict[str, Any]:
    _, _, body = await answer(app, Input("GET", b"/openapi.json", b"", [], b""))
    decoded: dict[str, Any] = msgspec.json.decode(body)
    return decoded


@pytest.fixture(scope="module")
def statuses_seen() -> Iterator[set[int]]:
    """The statuses of all responses: requests are accepted, and rejected for most reasons."""
    statuses: set[int] = set()
    yield statuses
    assert statuses >= {200, 201, 204, 401, 404, 405, 422}


@settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(requests=st.lists(inputs(), min_size=5, max_size=20), seed=st.integers(0))
async def test_the_response_to_any_request_conforms_to_the_openapi_document(
    app: AlertsApp, document: dict[str, Any], statuses_seen: set[int], requests: list[Input], seed: int
) -> None:
    random, last_id = Random(seed), b"none"
    for generated in (VALID_CREATE, *requests):
        for variant in (generated, *(mutate(generated, random) for _ in range(MUTATIONS))):
            request = variant._replace(path=variant.path.replace(b"{}", last_id))
            status, headers, body = await answer(app, request)
            assert_documented(document, request, status, headers, body)
            statuses_seen.add(status)
            if status == 201:
                last_id = msgspec.json.decode(body)["id"].encode()
