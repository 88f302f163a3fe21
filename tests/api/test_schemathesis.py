"""The OpenAPI document held against the service: what it allows is answered as it says, all else is refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData

from alerts_service.alerts.bulk_structs import BulkResults, BulkTransition, BulkTransitionResults
from alerts_service.alerts.structs import ALERT_EXAMPLE, Alert, CreateAlert
from alerts_service.settings import Settings
from tests.support.api import SERVICE_KEY
from tests.support.processes import ServiceProcess, serving
from tests.support.tokens import JWT_SECRET, sign_token

ROOT = Path(__file__).parents[2]
CONFIG = f"""
warnings.fail-on = ["missing_auth"]
auth.openapi.serviceKey.api_key = "{SERVICE_KEY}"
"""
TOKENS = f'auth.openapi.bearerAuth.bearer = "{sign_token("HS256", ALERT_EXAMPLE.tenant_id)}"'


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: "schemathesis.Case[Any]", __: dict[str, Any]) -> None:
    """Make no cursor and no tag up and call it good: they are opaque, so no schema can tell one from another text.

    Nor give a key to several requests, or to a stream, which takes none.
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
def lines(_: object, value: object) -> bytes:
    """Send lines as they are."""
    return str(value).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    database = str(settings.database_url)
    with serving(tmp_path_factory.mktemp("cwd"), DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY) as process:
        yield process


@pytest.fixture(scope="module")
def document(service: ServiceProcess) -> dict[str, Any]:
    with service.client() as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
    return document


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation for path, item in document["paths"].items() for method, operation in item.items()
    }


def hold(service: ServiceProcess, cwd: Path, config: str, examples: int) -> None:
    """Hold a service against its document."""
    (cwd / "schemathesis.toml").write_text(config)
    options = ["--checks=all", "--seed=1", f"--max-examples={examples}", "--generation-database=none", "--no-color"]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", *options, f"{service.url}/openapi.json"],
        cwd=cwd,
        env={**os.environ, "SCHEMATHESIS_HOOKS": __name__, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_service_does_what_the_document_says(service: ServiceProcess, tmp_path: Path) -> None:
    """Good requests are answered, bad ones refused, one by one and in sequences, always as the document describes."""
    hold(service, tmp_path, CONFIG, examples=5)


@pytest.mark.skipif("CLIENT_TESTS" not in os.environ, reason="CLIENT_TESTS=1 holds it against its document twice")
def test_the_service_does_what_the_document_says_with_tokens(settings: Settings, tmp_path: Path) -> None:
    """The same holds where tenants' tokens are asked for."""
    database = str(settings.database_url)
    with serving(
        tmp_path, DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY, TENANT_JWT_SECRET=JWT_SECRET
    ) as service:
        hold(service, tmp_path, CONFIG + TOKENS, examples=2)


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    """The document is valid OpenAPI 3.1."""
    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


def test_each_operation_shows_the_errors_that_it_may_return(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        shown = {
            status: [example["detail"] or "" for example in examples_of(response)]
            for status, response in operation["responses"].items()
            if status >= "400"
        }
        health, internal, safe = "/health" in name, "/internal" in name, name.startswith("get ")
        assert all(("does not answer" in detail) == health for detail in shown.get("503", ()))
        assert any("may still have been made" in detail for detail in shown.get("503", ())) == (not safe)
        assert any("this service key" in detail for detail in shown.get("429", ())) == internal
        assert any("this tenant" in detail for detail in shown.get("429", ())) == (not health and not internal)


def examples_of(response: dict[str, Any]) -> list[dict[str, Any]]:
    body = response["content"]["application/json"]
    return [example["value"] for example in body["examples"].values()] if "examples" in body else [body["example"]]


def test_health_routes_take_no_wrong_input(operations: dict[str, dict[str, Any]]) -> None:
    """A route that takes no input documents no validation error."""
    healths = [operation for name, operation in operations.items() if name.startswith("get /health")]
    assert [sorted(operation["responses"]) for operation in healths] == [["200", "503"], ["200", "503"], ["200"]]


def test_the_bodies(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """A body that may be left out says so, unknown fields are refused, and every field is there that needs no key."""
    required = {name: op["requestBody"]["required"] for name, op in operations.items() if "requestBody" in op}
    assert {name for name, value in required.items() if not value} == {
        "put /alerts/{alert_id}/acknowledge",
        "put /alerts/{alert_id}/resolve",
    }
    assert len(required) == 10
    schemas = document["components"]["schemas"]
    closed = {name for name, schema in schemas.items() if schema.get("additionalProperties") is False}
    assert closed == {"CreateAlert", "BulkCreate", "AlertFilter", "BulkTransition", "TransitionRequest"}
    whole = schemas.keys() - closed - {"BulkResult"}  # which has an alert or an error
    missing = {name: schemas[name]["properties"].keys() - schemas[name]["required"] for name in whole}
    assert missing.pop("Alert") == {"dedup_key", "occurrences", "first_seen_at", "last_seen_at"}
    assert set().union(*missing.values()) == set()
    msgspec.convert(schemas["Alert"]["examples"][0], Alert)


def test_bulk_schemas_are_typed_and_have_valid_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    create, transition = schemas["BulkCreate"], schemas["BulkTransition"]
    assert create["properties"]["alerts"]["items"] == {"$ref": "#/components/schemas/CreateAlert"}
    assert transition["properties"]["ids"]["items"] == {"type": "string", "format": "uuid"}
    for example in create["examples"]:
        msgspec.convert(example["alerts"], list[CreateAlert])
    assert [example.keys() & {"ids", "filter"} for example in transition["examples"]] == [{"ids"}, {"filter"}]
    for struct in (BulkTransition, BulkResults, BulkTransitionResults):
        for example in schemas[struct.__name__]["examples"]:
            msgspec.json.decode(json.dumps(example), type=struct)


def test_the_filters(operations: dict[str, dict[str, Any]]) -> None:
    """The filters of a list show their limits, and which values may stand between commas."""
    shown = {parameter["name"]: parameter["schema"] for parameter in operations["get /alerts"]["parameters"]}
    assert shown["q"].items() >= {"type": "string", "minLength": 1, "maxLength": 200}.items()
    assert shown["rule_name"].items() >= {"type": "string", "minLength": 1, "maxLength": 255}.items()
    assert re.fullmatch(shown["status"]["pattern"], "triggered,resolved")
    assert not re.search(shown["status"]["pattern"], "triggered,open")


def test_the_service_key(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """The internal routes, and they alone, ask for the service key."""
    keyed = {name: operation["security"] for name, operation in operations.items() if "security" in operation}
    assert keyed == {name: [{"serviceKey": []}] for name in operations if " /internal/" in name}
    scheme = document["components"]["securitySchemes"]["serviceKey"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "x-service-key")


def test_every_path_and_query_parameter_has_an_example(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "header":
                assert parameter.get("examples") or parameter["schema"]["examples"], (name, parameter["name"])
