"""Requests that nobody would think of, each answered as the document says, and never with a 500.

`FUZZ_EXAMPLES=100000 pytest tests/test_fuzz.py` looks further than the few examples of an ordinary run, and elsewhere
each time.
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

# Inputs near the limits are long, and Hypothesis warns of writing them down.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Generating overly large repr")]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
DAMAGES = 30 if EXAMPLES else 5  # of each request that was thought up
TENANTS = [UUID(int=number + (7 << 64)) for number in range(3)]
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH")
SUCCESSES: dict[tuple[str, str], Any] = {
    ("POST", "/alerts"): Alert,
    ("POST", "/internal/alerts"): Alert,
    ("POST", "/alerts/bulk"): BulkResults,
    ("POST", "/alerts/bulk/acknowledge"): BulkTransitionResults,
    ("POST", "/alerts/bulk/resolve"): BulkTransitionResults,
    ("POST", "/internal/alerts/bulk"): BulkResults,
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
several = st.lists(severities, max_size=3).map(",".join)
searches = st.text("ab \"-!or_'&|\\é💥", max_size=9)
keys = st.sampled_from(["k", "K", "é"]) | st.text(max_size=300)
long_texts = st.integers(1, 12_000).map("x".__mul__)
alert_bodies = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": tenants | values,
        "rule_name": st.text(max_size=300) | values,
        "message": st.text() | long_texts | values,
        "severity": severities | values,
        "dedup_key": keys | values,
        "status": values,
    },
)
good_bodies = st.fixed_dictionaries(
    {"tenant_id": tenants, "rule_name": st.text(min_size=1), "message": long_texts},
    optional={"severity": severities, "dedup_key": keys},
)
note_bodies = st.fixed_dictionaries({}, optional={"note": st.text() | long_texts | values, "x": values})


moments = st.datetimes(timezones=st.timezones())
bulk_bodies = st.fixed_dictionaries({"alerts": st.lists(good_bodies | alert_bodies | values, min_size=1, max_size=5)})
filters = st.fixed_dictionaries(
    {"tenant_id": tenants},
    optional={
        "status": st.sampled_from(["triggered", "acknowledged", "resolved"]) | values,
        "severity": severities,
        "rule_name": st.text() | values,
        "created_after": moments.map(datetime.isoformat) | values,
        "created_before": moments.map(datetime.isoformat) | st.datetimes().map(datetime.isoformat),
    },
)
move_bodies = st.fixed_dictionaries({"dry_run": st.booleans()}, optional={"note": st.text() | values}).flatmap(
    lambda said: (
        st.lists(st.uuids().map(str) | values, min_size=1, max_size=5).map(lambda ids: {**said, "ids": ids})
        | filters.map(lambda it: {**said, "filter": it})
    )
)
lines = st.lists(good_bodies | alert_bodies | values, max_size=5).map(
    lambda it: b"\n".join(json.dumps(value).encode() for value in it)
)
bodies = (alert_bodies | good_bodies | note_bodies | bulk_bodies | move_bodies | values).map(
    lambda value: json.dumps(value).encode()
) | lines
cursors = (
    st.builds(cursor.encode_alert_cursor, moments, st.uuids())
    | st.builds(cursor.encode_event_cursor, moments, st.uuids(), st.integers(-(2**31), 2**31 - 1))
    | st.text(max_size=40)
)
times = moments.map(datetime.isoformat) | st.datetimes().map(datetime.isoformat)
NAMES = [
    *("tenant_id", "status", "severity", "rule_name", "created_after", "created_before", "q"),
    *("type", "since", "until", "cursor", "limit"),
]
names = st.sampled_from(NAMES) | st.text(max_size=5)
statuses = st.sampled_from(["triggered", "acknowledged,resolved", "resolved,", "null", ""])
parameters = st.tuples(names, tenants | statuses | several | cursors | times | searches | st.text(max_size=9))
good_queries = st.tuples(
    tenants,
    st.lists(st.tuples(st.sampled_from(NAMES[1:]), statuses | several | cursors | times | searches), max_size=3),
).map(lambda it: [("tenant_id", it[0]), *it[1]])
queries = (good_queries | st.lists(parameters, max_size=4)).map(
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
    | st.text(max_size=12).map(lambda it: quote(it, errors="replace"))
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
KEYED = (b"x-service-key", SERVICE_KEY.encode())
STREAMED = (b"content-type", b"application/x-ndjson")
templates = st.sampled_from(
    [
        *(template for _, template in SUCCESSES),
        "/health",
        "/health/live",
        "/health/details",
        "/openapi.json",
        "/nowhere",
    ]
)


GOOD = Input(
    "POST", b"/alerts", b"", [], b'{"tenant_id":"%s","rule_name":"r","message":"m"}' % str(TENANTS[0]).encode()
)


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    template = draw(templates)
    methods = [method for method, path in SUCCESSES if path == template] or ["GET"]
    return Input(
        draw(st.sampled_from(methods) | st.sampled_from(METHODS)),
        template.replace("{alert_id}", draw(segments)).replace("{tenant_id}", draw(segments)).encode(),
        draw(st.just(b"") | queries),
        draw(st.just([KEYED]) | st.just([KEYED, STREAMED]) | headers),
        draw(bodies | st.just(b"")),
    )


def damaged(request: Input, chance: Random) -> Input:
    """The request with bytes missing, doubled or foreign in one of its parts."""
    part, safe = chance.choice([("path", "/%{}"), ("query", "=&%"), ("body", None)])
    text: bytes = getattr(request, part)
    start, end = sorted((chance.randint(0, len(text)), chance.randint(0, len(text))))
    between = chance.choice([b"", chance.randbytes(chance.randint(1, 4)), text[start:end] * 2])
    text = text[:start] + between + text[end:]
    change: dict[str, Any] = {part: text if safe is None else quote_from_bytes(text, safe).encode()}
    return request._replace(**change)


def template_of(path: bytes) -> str:
    """The route that a path leads to, with empty parts and the blanks of percent-encoding taken out."""
    parts = [part for part in unquote(path.decode("ascii")).split("/") if part]
    if len(parts) in {2, 3} and parts[0] in {"alerts", "stats"} and parts[:2] != ["alerts", "bulk"]:
        parts[1] = {"alerts": "{alert_id}", "stats": "{tenant_id}"}[parts[0]]
    return "/" + "/".join(parts)


def check(document: dict[str, Any], request: Input, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
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
    elif kind := SUCCESSES.get((request.method, template)):
        msgspec.json.decode(body, type=kind, strict=True)
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
    """The inputs are such that are answered, and such that are refused for most of the reasons there are."""
    seen: set[int] = set()
    yield seen
    assert seen >= {200, 201, 204, 401, 404, 405, 422}


@settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(requests=st.lists(inputs(), min_size=5, max_size=20), seed=st.integers(0))
async def test_any_input_is_answered_as_the_document_says(
    app: AlertsApp, document: dict[str, Any], statuses_seen: set[int], requests: list[Input], seed: int
) -> None:
    """Whatever is sent, the answer has the documented shape and status, and is no 500."""
    chance, last = Random(seed), b"none"
    for drawn in (GOOD, *requests):
        for variant in (drawn, *(damaged(drawn, chance) for _ in range(DAMAGES))):
            request = variant._replace(path=variant.path.replace(b"{}", last))
            status, headers, body = await answer(app, request)
            check(document, request, status, headers, body)
            statuses_seen.add(status)
            if status == 201:
                last = msgspec.json.decode(body)["id"].encode()
